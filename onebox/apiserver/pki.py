"""Certificates, tokens and kubeconfigs of one onebox: what `ladle up` makes sure of before it starts anything."""

from __future__ import annotations

import base64
import ipaddress
import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.base.clock import SystemClock
from onebox.home import Home, OneboxSettings, write_atomically

ADMIN = "admin"
COMPONENTS = ("controller", "engine", "node", "activator")
"""Processes that talk to the API server, each as a user of its own."""
_CA_LIFETIME = timedelta(days=3650)
_SERVER_LIFETIME = timedelta(days=825)
"""Longest lifetime that browsers and Apple's TLS accept for a server's certificate."""
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(hours=1)
"""How far behind a client's clock may be; a guess."""
_TOKEN_BYTES = 32

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def ensure_credentials(home: Home, settings: OneboxSettings) -> None:
    """Makes what is missing or about to expire; keeps the rest, so that kubeconfigs that people copied stay valid."""
    home.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.fromtimestamp(SystemClock().wall_s(), tz=UTC)
    authority = _load(home.pki / "ca.crt", home.pki / "ca.key", now)
    if authority is None:
        authority = _make_authority(now)
        _store(home.pki / "ca.crt", home.pki / "ca.key", authority)
    server = _load(home.pki / "server.crt", home.pki / "server.key", now)
    if server is None or server[0].issuer != authority[0].subject or not _signed_by(server[0], authority[0]):
        _store(home.pki / "server.crt", home.pki / "server.key", _make_server(authority, now))
    tokens = _ensure_tokens(home.pki / "tokens.json")
    certificate = (home.pki / "ca.crt").read_bytes()
    _write_kubeconfig(home.kubeconfig, ADMIN, tokens[ADMIN], settings, certificate)
    for name in COMPONENTS:
        _write_kubeconfig(home.component_kubeconfig(name), name, tokens[name], settings, certificate)


def _ensure_tokens(path: Path) -> dict[str, str]:
    """Tokens by user."""
    try:
        stored: dict[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        stored = {}
    by_user = {user: token for token, user in stored.items()}
    missing = [user for user in (ADMIN, *COMPONENTS) if user not in by_user]
    for user in missing:
        by_user[user] = secrets.token_urlsafe(_TOKEN_BYTES)
    if missing:
        content = json.dumps({token: user for user, token in by_user.items()}, indent=2)
        write_atomically(path, content.encode() + b"\n")
    return by_user


def _make_authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each authority: clients that know several must not mix them up.
    name = _name(f"ladle onebox {secrets.token_hex(4)}")
    builder = _certificate(name, name, key.public_key(), now, _CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256()), key


def _make_server(authority: Pair, now: datetime) -> Pair:
    certificate, authority_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
    builder = _certificate(_name("ladle-apiserver"), certificate.subject, key.public_key(), now, _SERVER_LIFETIME)
    builder = builder.add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return builder.sign(authority_key, hashes.SHA256()), key


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _CLOCK_SKEW).not_valid_after(now + lifetime)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _load(certificate_path: Path, key_path: Path, now: datetime) -> Pair | None:
    """A stored pair, if it is whole and good for a while yet."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return (certificate, key) if certificate.not_valid_after_utc > now + _RENEW_BEFORE else None


def _store(certificate_path: Path, key_path: Path, pair: Pair) -> None:
    certificate, key = pair
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a crash in between leaves a pair that does not match, which the next start replaces.
    write_atomically(key_path, encoded)
    write_atomically(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))


def _write_kubeconfig(path: Path, user: str, token: str, settings: OneboxSettings, authority: bytes) -> None:
    cluster = {
        "server": f"https://127.0.0.1:{settings.api_port}",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    content = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "onebox", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "onebox", "context": {"cluster": "onebox", "user": user, "namespace": "default"}}],
            "current-context": "onebox",
        },
        sort_keys=False,
    ).encode()
    # Left alone where nothing changed: clients watch the file's time to see whether their token was rotated.
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
