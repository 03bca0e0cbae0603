"""The Lua scripts of the record store."""

from __future__ import annotations

from importlib.resources import files

from service.records import TRANSITIONS


def load_scripts() -> dict[str, str]:
    """The Lua scripts by name, each with the status machine and the shared functions before it."""
    folder = files("service") / "lua"
    machine = "".join(
        f"LEGAL['{source}'] = {{{', '.join(f'{target} = true' for target in sorted(targets))}}}\n"
        for source, targets in TRANSITIONS.items()
    )
    head = f"local LEGAL = {{}}\n{machine}{(folder / 'common.lua').read_text()}\n"
    names = [item.name for item in folder.iterdir() if item.name.endswith(".lua") and item.name != "common.lua"]
    return {name.removesuffix(".lua"): head + (folder / name).read_text() for name in names}
