"""The addresses of webhooks, as requests give them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter

_LABEL = 63  # octets of a part of a name (RFC 1035)
_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)


def _plain(text: str) -> str:
    url = _URL.validate_python(text)
    if url.username is not None or url.password is not None:
        raise ValueError("leave user name and password out of the address; deliveries are signed instead")
    labels = (url.host or "").removesuffix(".").split(".")
    if not url.host or (not url.host.startswith("[") and not all(0 < len(label) <= _LABEL for label in labels)):
        raise ValueError("the name of the host has an empty or overlong part")
    return str(url)


WebhookUrl = Annotated[str, Field(max_length=2000, examples=["https://example.org/hook"]), AfterValidator(_plain)]
"""An http or https address without credentials."""
