"""How an https endpoint is trusted: its certificate and its host name are always verified."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable

_CERTIFICATE = re.compile(r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL)
_MORE = "'ca_file' names the certificate (PEM) of the authority that signed the server's, or the server's own where it signed itself"


def context(authorities: str, create: Callable[..., ssl.SSLContext] = ssl.create_default_context) -> ssl.SSLContext:
    """TLS 1.2 and later, verified. ``authorities`` are certificates in PEM, the only ones that are trusted; empty: those of the system.

    ``create`` may be gevent's. Raises ssl.SSLError where they cannot be read.
    """
    made = create(cadata=authorities or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def certificates_in(text: str) -> str:
    """The certificates of a PEM file and nothing else of it: what is trusted is kept beside a model, where a private key has no place.

    Raises ValueError where there are none, or one cannot be read.
    """
    found = "\n".join(_CERTIFICATE.findall(text))
    if not found:
        raise ValueError("holds no certificate in PEM ('-----BEGIN CERTIFICATE-----')")
    try:
        context(found)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"holds a certificate that cannot be read ({getattr(error, 'reason', None) or error})") from error
    return found + "\n"


def refusal(error: ssl.SSLError) -> tuple[str, str | None]:
    """Why there is no trusted connection, in words, and what to do about it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"no TLS with it ({(error.reason or str(error)).replace('_', ' ').lower()})", "is it http instead of https?"
    why = str(error.verify_message).rstrip(".")
    if "expired" in why or "not yet valid" in why:
        return f"its certificate is refused: {why}", "give the server a certificate that is valid now, and look at this machine's clock"
    if "match" in why:
        return f"its certificate is refused: {why}", "ask it by a name that its certificate has"
    return f"its certificate is refused: {why}", _MORE
