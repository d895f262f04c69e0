"""The client of the schema registry over TLS: who it trusts, and who it is."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from reviews.errors import Unavailable, WrongUse
from tests.integration.security.authority import Authority, Signed
from tests.unit.broker.formats.served import Served, serving

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the registry is signed by."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def person(authority: Authority) -> Signed:
    """A client's certificate, its key encrypted."""
    return authority.sign("person", password="hush")


def _context(authority: Authority, *, asks_who_is_there: bool = False, host: str = "127.0.0.1") -> Any:
    server = authority.sign(f"server-{host}", hosts=(host,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    if asks_who_is_there:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
    return context


def _ask(served: Served, **settings: Any) -> str:
    served.add(7, "string")
    return served.registry(**settings).by_id(7).text


def test_a_registry_that_a_trusted_authority_signed_is_asked(authority: Authority):
    with serving(_context(authority)) as served:
        assert _ask(served, ssl_cafile=str(authority.file)) == "string"


def test_a_registry_that_nobody_trusted_signed_is_not_asked(authority: Authority):
    with serving(_context(authority)) as served:
        with pytest.raises(Unavailable, match=r"certificate|issuer"):
            _ask(served)
        assert served.asked == []


def test_a_certificate_of_another_host_is_not_believed(authority: Authority):
    with serving(_context(authority, host="elsewhere.example")) as served:
        with pytest.raises(Unavailable, match=r"mismatch|not valid for"):
            _ask(served, ssl_cafile=str(authority.file))
        assert served.asked == []


def test_a_client_says_who_it_is_with_a_key_behind_a_password(authority: Authority, person: Signed):
    named = {"ssl_certfile": str(person.certificate), "ssl_keyfile": str(person.key)}
    with serving(_context(authority, asks_who_is_there=True)) as served:
        trusting = {"ssl_cafile": str(authority.file)}
        assert _ask(served, **trusting, **named, ssl_password=SecretStr("hush")) == "string"
        with pytest.raises(Unavailable):
            _ask(served, **trusting)
        with pytest.raises(WrongUse, match=r"registry\.ssl_cafile, ssl_certfile, ssl_keyfile"):
            _ask(served, **trusting, **named, ssl_password=SecretStr("wrong"))
        with pytest.raises(WrongUse):
            _ask(served, **trusting, **named)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with serving() as served:
        served.url = served.url.replace("http:", "https:")
        with pytest.raises(WrongUse, match="certificates of the schema registry"):
            _ask(served, ssl_cafile=str(tmp_path / "ca.pem"))
