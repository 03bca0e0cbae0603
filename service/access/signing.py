"""Signatures of webhooks by the Standard Webhooks scheme (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

_PREFIX = "whsec_"
DEVELOPMENT_SECRET = f"{_PREFIX}{base64.b64encode(b'coopserve webhooks in development').decode()}"
"""A secret that everybody knows, for webhooks that stay on one machine."""

_NEW_BYTES = 32
_LEAST_BYTES, _MOST_BYTES = 24, 64


def new_webhook_secret() -> str:
    """A fresh secret."""
    return f"{_PREFIX}{base64.b64encode(secrets.token_bytes(_NEW_BYTES)).decode()}"


def check_webhook_secret(secret: str) -> None:
    """Check the form of a secret.

    Raises:
        ValueError: it is not ``whsec_`` and the base64 of 24 to 64 bytes.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
    except binascii.Error:
        size = 0
    if not secret.startswith(_PREFIX) or not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise ValueError(f"use {_PREFIX} and base64 of {_LEAST_BYTES} to {_MOST_BYTES} random bytes")


def signed_headers(id: str, body: str, at: datetime, signing: Sequence[str]) -> dict[str, str]:
    """The header fields of a webhook.

    Args:
        id: names the message; the same each time that it is sent.
        body: what is sent.
        at: when it is sent, with its time zone.
        signing: the secrets; a receiver needs to know one of them.
    """
    at = at.astimezone(UTC)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(id, at, body) for secret in signing),
    }
