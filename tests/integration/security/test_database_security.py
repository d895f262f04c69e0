"""A database that asks for TLS and a password: who gets in, and what those read who do not."""

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.security.authority import Authority
from tests.integration.security.commands import command

REFUSALS = {
    "a wrong password": "refuses the login of 'owner': check the user in database.url",
    "no password": "wants a password of 'owner': set it in database.url or database.password",
    "an authority that did not sign": "not trusted: check sslrootcert in database.url",
    "a file that is not there": "the file of sslrootcert in database.url does not exist",
    "another name": "shows a certificate for another name: use that one in database.url",
    "no TLS": "wants TLS: add sslmode=verify-full and sslrootcert=FILE to database.url",
    "another database": "does not exist: create it, or check the name in database.url",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_who_does_not_get_in_reads_one_line_that_names_the_setting(
    case: str, secure_postgres, stranger: Authority, tmp_path: Path
):
    right = secure_postgres.url()
    url = {
        "a wrong password": secure_postgres.url(password="not the password"),
        "no password": right.replace(":" + quote(secure_postgres.password, safe=""), ""),
        "an authority that did not sign": secure_postgres.url(sslrootcert=str(stranger.file)),
        "a file that is not there": secure_postgres.url(sslrootcert="/no/such/file.pem"),
        "another name": secure_postgres.url(host="127.0.0.1"),
        "no TLS": secure_postgres.url(sslmode="disable", sslrootcert=""),
        "another database": right.replace("/postgres?", "/elsewhere?"),
    }[case]
    outcome = command(tmp_path, {"REVIEWLOOP_DATABASE__URL": url}, "db", "status")
    assert outcome.code == 1, outcome.printed
    assert outcome.printed.count("\n") == 1, outcome.printed
    assert REFUSALS[case] in outcome.printed


def test_a_server_without_tls_is_refused_by_who_asks_for_it(database: str, tmp_path: Path):
    outcome = command(tmp_path, {"REVIEWLOOP_DATABASE__URL": database + "?sslmode=require"}, "db", "status")
    assert "does not speak TLS, which sslmode in database.url asks for" in outcome.printed


def test_the_password_may_come_apart_from_the_url(secure_postgres, tmp_path: Path):
    (tmp_path / "reviewloop_database__password").write_text(secure_postgres.password)
    url = secure_postgres.url().replace(":" + quote(secure_postgres.password, safe=""), "")
    settings = {"REVIEWLOOP_DATABASE__URL": url, "REVIEWLOOP_SECRETS": str(tmp_path)}
    outcome = command(tmp_path, settings, "db", "upgrade")
    assert outcome.code == 0, outcome.printed
