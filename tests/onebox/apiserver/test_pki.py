"""Credentials: made once, kept, renewed when they run out, readable by their owner only."""

from __future__ import annotations

import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from onebox.apiserver import pki
from onebox.home import Home, OneboxSettings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "a home with spaces")
    pki.ensure_credentials(made, OneboxSettings())
    return made


def _content(home: Home) -> dict[str, bytes]:
    files = [*home.pki.iterdir(), home.kubeconfig, *home.components.iterdir()]
    return {str(path): path.read_bytes() for path in files}


def test_everything_is_made_and_private(home: Home) -> None:
    assert {path.name for path in home.pki.iterdir()} == {
        "ca.crt", "ca.key", "server.crt", "server.key", "tokens.json",
    }  # fmt: skip
    for path in _content(home):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_a_second_time_changes_nothing(home: Home) -> None:
    before = _content(home)
    pki.ensure_credentials(home, OneboxSettings())
    assert _content(home) == before


def test_another_port_changes_the_kubeconfigs_alone(home: Home) -> None:
    before = _content(home)
    pki.ensure_credentials(home, OneboxSettings(api_port=12345))
    after = _content(home)
    changed = {Path(path).name for path in after if after[path] != before[path]}
    assert changed == {"kubeconfig", *(f"{name}.kubeconfig" for name in pki.COMPONENTS)}
    assert "https://127.0.0.1:12345" in home.kubeconfig.read_text()


def test_each_component_is_a_user_of_its_own(home: Home) -> None:
    tokens = json.loads((home.pki / "tokens.json").read_text())
    assert sorted(tokens.values()) == sorted([pki.ADMIN, *pki.COMPONENTS])
    config = yaml.safe_load(home.component_kubeconfig("engine").read_text())
    assert tokens[config["users"][0]["user"]["token"]] == "engine"


def test_the_certificate_is_good_for_loopback_and_signed_by_the_authority(home: Home) -> None:
    certificate = x509.load_pem_x509_certificate((home.pki / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert "127.0.0.1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((home.pki / "ca.crt").read_bytes()))
    context = ssl.create_default_context(cafile=str(home.pki / "ca.crt"))
    assert context.cert_store_stats()["x509_ca"] == 1


def test_what_is_broken_is_replaced_and_the_rest_kept(home: Home) -> None:
    before = _content(home)
    (home.pki / "server.key").write_text("nonsense")
    pki.ensure_credentials(home, OneboxSettings())
    after = _content(home)
    assert after[str(home.pki / "ca.crt")] == before[str(home.pki / "ca.crt")]
    assert after[str(home.pki / "server.crt")] != before[str(home.pki / "server.crt")]


def test_a_lost_authority_takes_its_certificates_along(home: Home) -> None:
    (home.pki / "ca.key").unlink()
    pki.ensure_credentials(home, OneboxSettings())
    authority = x509.load_pem_x509_certificate((home.pki / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((home.pki / "server.crt").read_bytes()).verify_directly_issued_by(authority)


def test_a_certificate_is_renewed_before_it_runs_out(home: Home) -> None:
    authority = pki._load(home.pki / "ca.crt", home.pki / "ca.key", datetime.now(UTC))
    assert authority is not None
    old = pki._make_server(authority, datetime.now(UTC) - pki._SERVER_LIFETIME + timedelta(days=10))
    pki._store(home.pki / "server.crt", home.pki / "server.key", old)
    pki.ensure_credentials(home, OneboxSettings())
    renewed = x509.load_pem_x509_certificate((home.pki / "server.crt").read_bytes())
    assert renewed.not_valid_after_utc > old[0].not_valid_after_utc
