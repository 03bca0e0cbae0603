"""Who sends a request, what they may do, and how often. Every address is closed unless it is named as open here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from service.access.addresses import is_loopback
from service.access.keys import ApiKey, Keys, Scope
from service.access.limits import RateLimits
from service.access.signatures import Signatures
from service.contract.errors import AccessError, RateError, invalid
from service.settings import Settings
from service.store.types import QueueLimits

REVOKED_WITHIN_SECONDS = 5.0
"""How long a process may go on accepting a key that was revoked: it remembers the keys that it has looked up."""

_OPEN = frozenset({"/", "/playground", "/docs", "/openapi.json", "/favicon.ico", "/errors"})
_OPEN_BELOW = ("/playground/", "/docs/", "/errors/", "/v2/health/")
_OPEN_TO_THIS_MACHINE = frozenset({"/metrics"})


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    Args:
        owner: whose everything is that the request makes; None: nobody's, and seen by callers who see all.
        scopes: what the request may do.
        max_active: most unfinished jobs of the owner; None: no limit.
        max_cost: most that these may cost; None: no limit.
        rate: most requests a time; None: no limit.
        signed: whether the address itself says, by its signature, that what it names may be seen.
    """

    owner: str | None
    scopes: frozenset[Scope]
    max_active: int | None = None
    max_cost: float | None = None
    rate: str | None = None
    signed: bool = False

    @property
    def sees_all(self) -> bool:
        """Whether everybody's things are shown."""
        return self.signed or Scope.ADMIN in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Whether things of this owner are shown; what nobody owns is shown to those who see all."""
        return self.sees_all or (owner is not None and owner == self.owner)

    def sees_model(self, owner: str | None) -> bool:
        """Whether models of this owner are shown; what nobody owns is everybody's."""
        return owner is None or self.sees(owner)

    @property
    def listing(self) -> str | None:
        """Whose things are listed; None: everybody's."""
        return None if self.sees_all else self.owner

    def limits(self, max_queued: int) -> QueueLimits:
        """What bounds the caller's queued and running work."""
        return QueueLimits(max_queued, self.max_active, self.max_cost)

    def check_cost(self, cost: float) -> None:
        """Check that a job does not cost more than the caller may use at a time, so that it could never run.

        Raises:
            UnprocessableError: it does.
        """
        if self.max_cost is not None and cost > self.max_cost:
            message = (
                f"the job would cost {cost:.0f} (images x steps x pixels), more than the {self.max_cost:.0f} that you "
                "may use at a time; ask for fewer images, steps or pixels"
            )
            raise invalid("n", message)

    def require(self, scope: Scope) -> None:
        """Check what the request may do.

        Raises:
            AccessError: the scope is missing.
        """
        if not self.scopes & {scope, Scope.ADMIN}:
            detail = f"this needs a key with the scope {scope.value!r}; yours has: {', '.join(sorted(self.scopes))}"
            raise AccessError("forbidden", detail, f'error="insufficient_scope", scope="{scope.value}"')


class Guard:
    """Tells callers by their keys, and counts their requests.

    Args:
        settings: whether keys are asked for, and the limits of callers whose keys have none.
        keys: all keys.
        rates: counts requests.
        signatures: of addresses that need no key.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        rates: RateLimits,
        signatures: Signatures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._keys, self._rates, self._clock = settings, keys, rates, clock
        self._signatures = signatures
        self._known: dict[str, tuple[float, Caller]] = {}
        self._anyone = Caller(None, frozenset(Scope), rate=settings.rate_limit)
        self._signed = Caller(None, frozenset({Scope.USE, Scope.TRAIN}), rate=settings.rate_limit, signed=True)

    async def caller(
        self, path: str, authorization: str | None, client: str, forwarded: bool = False, query: str = ""
    ) -> Caller:
        """Who sends a request.

        Args:
            path: the address that is asked for.
            authorization: the header field.
            client: the client's network address.
            forwarded: whether the request says that a proxy has passed it on, so that the address may be the proxy's.
            query: of the address, which may hold a signature.

        Raises:
            AccessError: the address is closed, and no key was sent, or one that does not exist.
        """
        if not self._settings.auth_on or _is_open(path):
            return self._anyone
        if authorization is None:
            if path in _OPEN_TO_THIS_MACHINE and is_loopback(client) and not forwarded:
                return self._anyone
            if "signature=" in query:
                if await run_in_threadpool(self._signatures.holds, path, query):
                    return self._signed
                detail = "the address is not signed for this, or its time is over; read the record again for a new one"
                raise AccessError("unauthenticated", detail)
            raise AccessError("unauthenticated", "no API key was sent")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise AccessError("unauthenticated", "the Authorization header is not of the form: Bearer KEY")
        return await self._caller_of(token.strip())

    async def count(self, path: str, caller: Caller, client: str) -> dict[str, str]:
        """Count a request; gives header fields for its answer. Without a rate it costs nothing.

        Raises:
            RateError: the caller has sent too many.
        """
        if caller.rate is None or _is_open(path):
            return {}
        name = f"address {client}" if caller.owner is None else f"owner {caller.owner}"
        window = await run_in_threadpool(self._rates.count, name, caller.rate)
        if not window.allowed:
            raise RateError(f"you may send {caller.rate}; the next in {window.reset} s", window.headers())
        return window.headers()

    async def _caller_of(self, token: str) -> Caller:
        until, caller = self._known.get(token, (0.0, self._anyone))
        now = self._clock()
        if now < until:
            return caller
        self._known.pop(token, None)
        key = await run_in_threadpool(self._keys.verify, token)
        if key is None:
            detail = "there is no such API key; it may have been revoked"
            raise AccessError("unauthenticated", detail, 'error="invalid_token"')
        caller = self._from(key)
        self._known[token] = (now + REVOKED_WITHIN_SECONDS, caller)
        return caller

    def _from(self, key: ApiKey) -> Caller:
        settings = self._settings
        return Caller(
            key.owner,
            key.scopes,
            key.max_active or settings.max_active,
            key.max_cost or settings.max_cost,
            key.rate or settings.rate_limit,
        )


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_BELOW)
