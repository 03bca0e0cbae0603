"""Swagger UI from an installed package, so that it works without internet access."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_CACHE = {"Cache-Control": "public, max-age=86400"}


def build(title: str, openapi_url: str) -> APIRouter:
    """The page and its assets."""
    router = APIRouter(include_in_schema=False)
    # Addresses are relative to /docs, so they hold behind a proxy that adds a path.
    page = get_swagger_ui_html(
        openapi_url=openapi_url.lstrip("/"),
        title=title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "filter": True, "displayRequestDuration": True},
    )
    folder = files("fastapi_swagger") / "resources"
    for name, media_type in _ASSETS.items():
        asset = Response((folder / name).read_bytes(), media_type=media_type, headers=_CACHE)
        router.add_api_route(f"/docs/{name}", _always(asset))
        if media_type == "image/png":
            router.add_api_route("/favicon.ico", _always(asset))
    router.add_api_route("/docs", _always(page))
    return router


def _always(response: Response) -> Callable[[], Awaitable[Response]]:
    async def endpoint() -> Response:
        return response

    return endpoint
