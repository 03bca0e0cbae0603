"""Multipart bodies of edits: the fields as JSON would have them, and the files as data URIs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import FormData, UploadFile

from service.contract.errors import invalid

_TEXTS = frozenset({"prompt", "model", "size", "user", "safety_identifier", "task"})
"""Fields whose words are taken as they stand; all others are JSON where they can be read as that."""
_KEY = re.compile(r"(?P<name>\w{1,100})(?:\[(?P<member>[^\[\]]{0,200})\])?")
_FILES = {"image": "image", "images": "image", "mask": "mask"}


async def content_of(form: FormData) -> dict[str, Any]:
    """The fields of a form.

    ``image``, ``image[]`` and ``mask`` are files; ``options[factor]`` is a member of ``options``.

    Raises:
        UnprocessableError: a field is not what it should be.
    """
    content: dict[str, Any] = {}
    for key, value in form.multi_items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise invalid("body", f"there is no field {key[:100]!r}")
        name, member = match["name"], match["member"]
        if isinstance(value, UploadFile):
            if name not in _FILES:
                raise invalid(name, "it is no file; the files are image and mask")
            _add_file(content, _FILES[name], await value.read())
        elif name in _FILES:
            raise invalid(_FILES[name], "send it as a file: as a part of the form with a file name")
        elif member:
            _member(content, name)[member] = _value(name, value)
        elif name in content:
            raise invalid(name, "it is there twice")
        else:
            content[name] = _value(name, value)
    return content


def _add_file(content: dict[str, Any], name: str, file: bytes) -> None:
    uri = f"data:application/octet-stream;base64,{base64.b64encode(file).decode()}"
    if name == "mask":
        if name in content:
            raise invalid(name, "send one mask")
        content[name] = uri
    else:
        content.setdefault(name, []).append(uri)


def _member(content: dict[str, Any], name: str) -> dict[str, Any]:
    members = content.setdefault(name, {})
    if not isinstance(members, dict):
        raise invalid(name, "it is there twice")
    return members


def _value(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(name: str) -> Iterable[Any]:
    raise ValueError(f"{name} is no number of JSON")
