"""Whom a transformer believes to be its predictor: the file of authorities, and what is said where there is no trust.

As in KServe, REQUESTS_CA_BUNDLE names the file, over gRPC too; SSL_CERT_FILE, which OpenSSL itself reads, does where that is
not set. Without either, REST believes the machine's authorities, and gRPC those that come with its library.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from ladle.errors import StatusError, UserError
from ladle.transformer.attempts import failure

VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Which name the file, the first one first."""


def find_authorities(env: Mapping[str, str]) -> str:
    """The file that the environment names, "" for none; UserError where it is not there or holds no certificate."""
    name = next((name for name in VARIABLES if env.get(name)), None)
    if name is None:
        return ""
    path = env[name]
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise UserError(f"{name} = {path}, must be a file of certificates in PEM") from None
    except OSError as error:
        raise UserError(f"{name} = {path}, cannot be read: {error.strerror}") from None
    return path


def client_context(authorities: str) -> ssl.SSLContext:
    """For connections of Python's own TLS."""
    return ssl.create_default_context(cafile=authorities or None)


def root_certificates(authorities: str) -> bytes | None:
    """For gRPC's, which has another library; None for those that it brings."""
    return Path(authorities).read_bytes() if authorities else None


def distrust(host: str, reason: str) -> StatusError:
    """The predictor's certificate is not one to believe. Asking again would not change that."""
    advice = f"name the file of its authority in {VARIABLES[0]}"
    return failure(502, f"predictor {host} is not trusted: {reason}; {advice}")


def no_tls(host: str, reason: str) -> StatusError:
    """There is no talking TLS with what listens there."""
    return failure(502, f"predictor {host} does not speak TLS with us: {reason}; is --predictor_use_ssl meant?")
