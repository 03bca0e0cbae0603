"""Who may publish a model under a name, and whose the model is then.

A name belongs to whoever published under it first: to the owner of a key, or to everybody (None), which are the shipped
models and those that operators and administrators have trained.
"""

from __future__ import annotations

from collections.abc import Set

from service.access.security import Caller
from service.contract.catalog import sole_owner
from service.contract.errors import TakenError


def owner_of_new(name: str, holders: Set[str | None], caller: Caller) -> str | None:
    """The owner of the model that a caller trains under a name.

    Args:
        name: of the model.
        holders: the owners of the versions that it has already.
        caller: who asks. A key publishes under names of its owner alone; who sees all publishes under every name, for
            everybody or, under somebody's name, for its owner.

    Raises:
        TakenError: the name is not the caller's.
    """
    if caller.sees_all:
        return sole_owner(holders)
    if holders <= {caller.owner}:
        return caller.owner
    raise TakenError(name)
