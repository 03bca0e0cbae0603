"""Files in data URIs."""

from __future__ import annotations

import base64
import binascii
import re

from pictures.files import BadPictureError, TooLargeError

_DATA_URI = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,4};base64,", re.IGNORECASE)


def file_of_data_uri(uri: str, max_bytes: int) -> bytes:
    """The file in ``data:image/png;base64,...``; the media type is not believed.

    Raises:
        BadPictureError: it is no such URI.
        TooLargeError: the file has more than ``max_bytes``.
    """
    head = _DATA_URI.match(uri)
    if head is None:
        raise BadPictureError(
            "it is neither the id of an uploaded image (img_...) nor a data URI such as data:image/png;base64,..."
        )
    if (len(uri) - head.end()) // 4 * 3 > max_bytes + 2:
        raise TooLargeError(f"it has more than {max_bytes} bytes, which are accepted at most")
    try:
        return base64.b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise BadPictureError("what follows `base64,` is not base64") from None
