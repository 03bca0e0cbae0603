"""The addresses of webhooks, as requests give them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)


def _plain(text: str) -> str:
    url = _URL.validate_python(text)
    if url.username is not None or url.password is not None:
        raise ValueError("leave user name and password out of the address; deliveries are signed instead")
    return str(url)


WebhookUrl = Annotated[str, Field(max_length=2000, examples=["https://example.org/hook"]), AfterValidator(_plain)]
"""An http or https address without credentials."""
