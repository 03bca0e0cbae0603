"""The Lua scripts of the record store, and how they are called."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import redis

from service.contract.records import TRANSITIONS, Record


def load_scripts() -> dict[str, str]:
    """The Lua scripts by name, each with the status machine and the shared functions before it."""
    folder = files("service.store") / "lua"
    machine = "".join(
        f"LEGAL['{source}'] = {{{', '.join(f'{target} = true' for target in sorted(targets))}}}\n"
        for source, targets in TRANSITIONS.items()
    )
    head = f"local LEGAL = {{}}\n{machine}{(folder / 'common.lua').read_text()}\n"
    names = [item.name for item in folder.iterdir() if item.name.endswith(".lua") and item.name != "common.lua"]
    return {name.removesuffix(".lua"): head + (folder / name).read_text() for name in names}


def prefix_of(record_type: type[Record], namespace: str) -> str:
    """What all keys of a store begin with; the braces keep them in one slot of a Redis cluster."""
    return f"{{{namespace}:{record_type.prefix}}}"


class Scripts:
    """The scripts, on the records of one type.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        record_type: the type of the records.
        namespace: what all keys begin with.
    """

    def __init__(self, client: redis.Redis, record_type: type[Record], namespace: str) -> None:
        self.prefix = prefix_of(record_type, namespace)
        self._scripts = {name: client.register_script(text) for name, text in load_scripts().items()}

    def run(self, name: str, *args: str | float) -> Any:
        """What a script gives, in one round trip."""
        return self._scripts[name](keys=[self.prefix], args=args)
