"""Server-sent events, from lines of text (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import json
from typing import final

from coopserve.client.results import Event


@final
class Decoder:
    """Makes events of the lines of a stream."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._data: list[str] = []

    def event(self, line: str) -> Event | None:
        """The event that a line completes, if it completes one; comments and silence are none."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name:
                self._fields[name] = value
            return None
        fields, data = self._fields, "\n".join(self._data)
        self._fields, self._data = {}, []
        if not data:
            return None
        return Event(fields.get("id", ""), fields.get("event", "message"), json.loads(data))
