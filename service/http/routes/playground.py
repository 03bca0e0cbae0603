"""The page at ``/``: plain files of this package, so that it works without internet access."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from service.http.root import root

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def build() -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    folder = files("service.http") / "playground"
    html = (folder / "index.html").read_text()

    async def page() -> Response:
        return Response(html.replace("{root}", root.get()), media_type="text/html", headers=_HEADERS)

    async def elsewhere() -> Response:
        return RedirectResponse("/")

    router.add_api_route("/", page)
    router.add_api_route("/playground", elsewhere)
    for item in folder.iterdir():
        suffix = f".{item.name.rpartition('.')[2]}"
        if suffix in _TYPES:
            router.add_api_route(f"/playground/{item.name}", _File(item.read_bytes(), _TYPES[suffix]).answer)
    return router


class _File:
    """A file that browsers ask for each time, and are told that theirs is current."""

    def __init__(self, data: bytes, media_type: str) -> None:
        self._data, self._type = data, media_type
        self._headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"'}

    async def answer(self, request: Request) -> Response:
        if self._headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        return Response(self._data, media_type=self._type, headers=self._headers)
