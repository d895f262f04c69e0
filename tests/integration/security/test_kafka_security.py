"""A broker that asks for TLS and logins: who gets in, and what those read who do not."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reviewloop.local.places import free_port
from tests.integration.security.authority import Authority
from tests.integration.security.commands import Outcome, command, sasl_ssl
from tests.integration.security.secure_kafka import SecureKafka

HERE = "tests.integration.security.token_provider"
KAFKA = "REVIEWLOOP_KAFKA__"

Settings = dict[str, str | None]

# What is changed from settings that are right, and what the one line of the error has to say.
REFUSALS = {
    "a wrong password": "refuses the login of 'scorer': check kafka.sasl_username and kafka.sasl_password",
    "an unknown user": "refuses the login of 'nobody': check kafka.sasl_username and kafka.sasl_password",
    "a mechanism that is not offered": "does not offer PLAIN: set kafka.sasl_mechanism",
    "an authority that did not sign": "(unable to get local issuer certificate): check kafka.ssl_cafile",
    "no authority": "check kafka.ssl_cafile (not set, so the system's authorities count)",
    "a file that is not there": "The file of kafka.ssl_cafile cannot be read: /no/such/file.pem",
    "no TLS to a TLS port": "speaks TLS, but kafka.security_protocol is PLAINTEXT: set it to SSL or SASL_SSL",
    "a login without TLS to a TLS port": "kafka.security_protocol is SASL_PLAINTEXT: set it to SASL_SSL",
    "TLS to a port without": "does not speak TLS, but kafka.security_protocol is SASL_SSL: check the port",
    "no login where one is wanted": "wants a login: set kafka.security_protocol to SASL_PLAINTEXT",
    "no certificate where one is wanted": "wants a client's certificate: set kafka.ssl_certfile",
    "a key that stays closed": "check kafka.ssl_certfile, kafka.ssl_keyfile and kafka.ssl_password",
    "an expired token": "refuses the login: check kafka.sasl_oauth_token_provider",
    "a provider that fails": "(RuntimeError in OAUTHBEARER): check kafka.sasl_oauth_token_provider",
    "a provider of another kind": "does not extend kafka.net.sasl.oauth.AbstractTokenProvider",
    "no password": "kafka.security_protocol is SASL_SSL, which needs kafka.sasl_password: not set",
    "nobody there": "does not answer: is it running, and is the address right?",
}  # fmt: skip


def _changes(case: str, kafka: SecureKafka, authority: Authority, stranger: Authority) -> Settings:
    mutual: Settings = {
        "BOOTSTRAP_SERVERS": kafka.ssl,
        "SECURITY_PROTOCOL": "SSL",
        "SASL_MECHANISM": None,
        "SASL_USERNAME": None,
        "SASL_PASSWORD": None,
    }
    locked = authority.sign("locked", password="something else")
    token: Settings = {"SASL_MECHANISM": "OAUTHBEARER", "SASL_USERNAME": None, "SASL_PASSWORD": None}
    changes: dict[str, Settings] = {
        "a wrong password": {"SASL_PASSWORD": "not the password"},
        "an unknown user": {"SASL_USERNAME": "nobody"},
        "a mechanism that is not offered": {"SASL_MECHANISM": "PLAIN"},
        "an authority that did not sign": {"SSL_CAFILE": str(stranger.file)},
        "no authority": {"SSL_CAFILE": None},
        "a file that is not there": {"SSL_CAFILE": "/no/such/file.pem"},
        "no TLS to a TLS port": {"SECURITY_PROTOCOL": "PLAINTEXT"},
        "a login without TLS to a TLS port": {"SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        "TLS to a port without": {"BOOTSTRAP_SERVERS": kafka.sasl_plaintext},
        "no login where one is wanted": {
            "BOOTSTRAP_SERVERS": kafka.sasl_plaintext,
            "SECURITY_PROTOCOL": "PLAINTEXT",
        },
        "no certificate where one is wanted": mutual,
        "a key that stays closed": {
            **mutual,
            "SSL_CERTFILE": str(locked.certificate),
            "SSL_KEYFILE": str(locked.key),
        },
        "an expired token": {**token, "SASL_OAUTH_TOKEN_PROVIDER": f"{HERE}:Expired"},
        "a provider that fails": {**token, "SASL_OAUTH_TOKEN_PROVIDER": f"{HERE}:Broken"},
        "a provider of another kind": {**token, "SASL_OAUTH_TOKEN_PROVIDER": f"{HERE}:Foreign"},
        "no password": {"SASL_PASSWORD": None},
        "nobody there": {"BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"},
    }
    return changes[case]


def _with(settings: dict[str, str], changes: Settings) -> dict[str, str]:
    merged = {**settings, **{KAFKA + name: value for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture(scope="module")
def right(secure_kafka: SecureKafka) -> dict[str, str]:
    """The settings of somebody who may."""
    return {
        **sasl_ssl(secure_kafka.sasl_ssl, secure_kafka.password, secure_kafka.authority),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }


@pytest.fixture(scope="module")
def outcomes(
    right: dict[str, str],
    secure_kafka: SecureKafka,
    authority: Authority,
    stranger: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    """Every refusal, at once: kafka-python takes ten seconds to give up."""
    folder = tmp_path_factory.mktemp("refusals")

    def attempt(case: str) -> Outcome:
        settings = _with(right, _changes(case, secure_kafka, authority, stranger))
        return command(folder, settings, "topics", "create", "--topic", "never-made")

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(REFUSALS, pool.map(attempt, REFUSALS), strict=True))


@pytest.mark.parametrize("case", REFUSALS)
def test_who_does_not_get_in_reads_one_line_that_names_the_setting(case: str, outcomes: dict[str, Outcome]):
    outcome = outcomes[case]
    assert outcome.code in {1, 2}, outcome.printed
    assert outcome.printed.count("\n") == 1, outcome.printed
    assert outcome.printed.startswith("Error: ")
    assert REFUSALS[case] in outcome.printed


def test_a_password_over_tls_gets_in(right: dict[str, str], tmp_path: Path):
    topic = f"scram-{secrets.token_hex(4)}"
    assert command(tmp_path, right, "topics", "create", "--topic", topic) == (0, f"{topic}: made\n")


def test_a_password_without_tls_gets_in_where_the_broker_allows_it(
    right: dict[str, str], secure_kafka: SecureKafka, tmp_path: Path
):
    changes: Settings = {
        "BOOTSTRAP_SERVERS": secure_kafka.sasl_plaintext,
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SSL_CAFILE": None,
    }
    outcome = command(tmp_path, _with(right, changes), "topics", "create", "--topic", "plain")
    assert outcome.code == 0, outcome.printed


def test_a_clients_certificate_with_an_encrypted_key_gets_in(
    right: dict[str, str], secure_kafka: SecureKafka, authority: Authority, tmp_path: Path
):
    signed = authority.sign("client", password="opens the key")
    changes: Settings = {
        "BOOTSTRAP_SERVERS": secure_kafka.ssl,
        "SECURITY_PROTOCOL": "SSL",
        "SASL_MECHANISM": None,
        "SASL_USERNAME": None,
        "SASL_PASSWORD": None,
        "SSL_CERTFILE": str(signed.certificate),
        "SSL_KEYFILE": str(signed.key),
        "SSL_PASSWORD": "opens the key",
    }
    outcome = command(tmp_path, _with(right, changes), "topics", "create", "--topic", "mutual")
    assert outcome.code == 0, outcome.printed


def test_a_token_of_the_configured_provider_gets_in(right: dict[str, str], tmp_path: Path):
    changes: Settings = {
        "SASL_MECHANISM": "OAUTHBEARER",
        "SASL_USERNAME": None,
        "SASL_PASSWORD": None,
        "SASL_OAUTH_TOKEN_PROVIDER": f"{HERE}:Unsigned",
    }
    outcome = command(tmp_path, _with(right, changes), "topics", "create", "--topic", "token")
    assert outcome.code == 0, outcome.printed
