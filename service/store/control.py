"""What administrators ask of the workers: to load a model and keep it, or to let it go.

Pinned models are a set in Redis, which a worker reads when it starts. Changes are a stream: every worker reads all of
it from where it began, so none is missed while a connection is away.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import redis

_KEPT = 1000
_START = "0-0"


class Command(NamedTuple):
    """Something that every inference worker is to do with a model, ``name@version``."""

    action: Literal["load", "unload"]
    ref: str


class Control:
    """Both ends of the line to the workers. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        namespace: what all keys begin with.
    """

    def __init__(self, client: redis.Redis, namespace: str = "coopserve") -> None:
        self._client = client
        self._pinned = f"{{{namespace}:control}}:pinned"
        self._commands = f"{{{namespace}:control}}:commands"

    def load(self, ref: str) -> None:
        """Have every worker load the model and keep it, also those that start later."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.sadd(self._pinned, ref)
        pipeline.xadd(self._commands, {"action": "load", "ref": ref}, maxlen=_KEPT)
        pipeline.execute()

    def unload(self, ref: str) -> None:
        """Have every worker drop the model as soon as no job uses it; the next job that asks for it loads it again."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.srem(self._pinned, ref)
        pipeline.xadd(self._commands, {"action": "unload", "ref": ref}, maxlen=_KEPT)
        pipeline.execute()

    def pinned(self) -> frozenset[str]:
        """The models that workers keep."""
        return frozenset(map(str, self._client.smembers(self._pinned)))

    def position(self) -> str:
        """Where the commands end now."""
        last = self._client.xrevrange(self._commands, count=1)
        return str(last[0][0]) if last else _START

    def commands(self, position: str, wait_seconds: float) -> tuple[str, list[Command]]:
        """The commands after a position, and the position after them; waits for the first one, but not longer."""
        self._client.xread({self._commands: position}, block=max(1, int(wait_seconds * 1000)))
        found: Any = self._client.xrange(self._commands, min=f"({position}")
        commands = [Command(fields["action"], fields["ref"]) for _, fields in found]
        return str(found[-1][0]) if found else position, commands
