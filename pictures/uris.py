"""Files in data URIs, as browsers take them (the URL and Infra standards of WHATWG)."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from pictures.info import BadPictureError, TooLargeError

_DATA_URI = re.compile(r"\s*data:[^,;]{0,100}(?:;[^,;]{1,100}){0,4}; *base64\s*,", re.IGNORECASE)
_WHITE = b" \t\n\f\r"


def file_of_data_uri(uri: str, max_bytes: int) -> bytes:
    """The file in ``data:image/png;base64,...``; the media type is not believed.

    White space, line breaks and missing padding are accepted, and characters may be written as ``%2B``.

    Raises:
        BadPictureError: it is no such URI.
        TooLargeError: the file has more than ``max_bytes``.
    """
    head = _DATA_URI.match(uri)
    if head is None:
        raise BadPictureError(
            "it is neither the id of an uploaded image (img_...) nor a data URI such as data:image/png;base64,..."
        )
    try:
        text = uri[head.end() :].encode("ascii")
    except UnicodeEncodeError:
        raise _not_base64() from None
    text = (unquote_to_bytes(text) if b"%" in text else text).translate(None, _WHITE)
    if len(text) // 4 * 3 > max_bytes + 2:
        raise TooLargeError(f"it has more than {max_bytes} bytes, which are accepted at most")
    if len(text) % 4 == 0:
        text = text.removesuffix(b"=").removesuffix(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _not_base64() from None


def _not_base64() -> BadPictureError:
    return BadPictureError("what follows `base64,` is not base64")
