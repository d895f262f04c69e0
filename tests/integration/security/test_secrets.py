"""A review travels encrypted from topic to row, and no secret shows up anywhere on the way."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.commands import command as new_process
from tests.integration.security.commands import command, sasl_ssl
from tests.integration.security.conftest import CANARY
from tests.integration.security.secure_kafka import SecureBroker
from tests.integration.system import make_environment

KEY_WORD = f"{CANARY}-key"
SPELLINGS = (CANARY, quote(CANARY, safe=""), CANARY.replace("%", "%%"))
URL, KAFKA = "REVIEWLOOP_DATABASE__URL", "REVIEWLOOP_KAFKA__"


@pytest.fixture
def settings(
    secure_broker: SecureBroker, secure_postgres, tiny_model: Path, tmp_path: Path
) -> dict[str, str]:
    """A system whose every secret is the canary."""
    kafka = secure_broker.clients
    return {
        **sasl_ssl(kafka.sasl_ssl, CANARY, kafka.authority),
        f"{KAFKA}SSL_PASSWORD": KEY_WORD,
        f"{KAFKA}REVIEWS_TOPIC": f"secure-{secrets.token_hex(4)}",
        URL: secure_postgres.url(),
        "REVIEWLOOP_DATABASE__PASSWORD": CANARY,
        "REVIEWLOOP_CLASSIFIER__BASE_MODEL": str(tiny_model),
        "REVIEWLOOP_CONSUMER__ADAPTER_CACHE": str(tmp_path / "cache"),
        "REVIEWLOOP_CONSUMER__RETRY_MAX_SECONDS": "0.5",
    }


def _assert_silent(printed: str) -> None:
    for spelling in SPELLINGS:
        assert spelling not in printed, printed


def test_a_review_travels_encrypted_from_topic_to_row_and_no_secret_is_told(
    settings: dict[str, str], tiny_adapters: tuple[Path, Path], secure_server, secure_broker, tmp_path: Path
):
    (tmp_path / "reviews.jsonl").write_text('{"id": "one", "text": "encrypted on both ways"}\n')
    (tmp_path / "password").write_text(CANARY)
    name = f"writer_{secrets.token_hex(4)}"
    steps = [
        ["db", "upgrade"],
        ["db", "roles", "--writer", name, "--writer-password-file", "password"],
        ["topics", "create"],
        ["adapters", "add", str(tiny_adapters[0]), "--activate"],
        ["publish", "reviews.jsonl"],
        ["--debug", "consume", "--workers", "2", "--until-idle", "0.2"],
        ["query", "--format", "jsonl"],
        ["offsets", "show"],
        ["dead-letters", "list"],
        ["doctor"],
        ["--debug", "doctor", "--format", "json"],
        ["config", "show"],
        ["config", "show", "--format", "json"],
    ]
    printed = ""
    for arguments in steps:
        outcome = command(tmp_path, settings, *arguments)
        assert outcome.code == 0, (arguments, outcome.printed)
        printed += outcome.printed
    assert '"review_id": "one"' in printed
    assert "SASL_SSL" in printed
    assert "encrypted" in printed
    _assert_silent(printed)
    # The services' own logs: the server writes down every statement, ALTER ROLE with the hash among them.
    statements = secure_server.log.read_text(errors="replace")
    assert f'ALTER ROLE "{name}" LOGIN PASSWORD' in statements
    _assert_silent(statements)
    _assert_silent(secure_broker.log_text())


def _mistakes(settings: dict[str, str]) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    status, show, create = ["db", "status"], ["config", "show"], ["topics", "create"]
    changes: dict[str, tuple[dict[str, str], list[str]]] = {
        "an unknown database": ({URL: settings[URL].replace("/postgres?", "/none?")}, status),
        "a port that is closed": ({URL: f"postgresql://u:{CANARY}@127.0.0.1:1/x"}, status),
        "a URL that is none": ({URL: CANARY}, status),
        "another database system": ({URL: f"mysql://u:{CANARY}@h/x"}, status),
        "a port that is not a number": ({URL: f"postgresql://u:{CANARY}@h:x/y"}, status),
        "a typing error": ({f"{KAFKA}SASL_PASWORD": CANARY}, show),
        "JSON that is none": ({"REVIEWLOOP_DATABASE": '{"password": "' + CANARY}, show),
        "a section for a password": ({"REVIEWLOOP_METRICS": f'{{"port": "{CANARY}"}}'}, show),
        "a wrong mechanism": ({f"{KAFKA}SASL_MECHANISM": "PLAIN"}, create),
        "a wrong user": ({f"{KAFKA}SASL_USERNAME": "nobody"}, create),
        "a key that is none": ({f"{KAFKA}SSL_CERTFILE": "/etc/hostname"}, create),
        "a role that cannot be": ({}, ["db", "roles", "--writer=pg_x", "--writer-password-file=password"]),
        "a task without an adapter": (
            {"REVIEWLOOP_CONSUMER__TASKS": '["none"]'},
            ["consume", "--until-idle", "0.2"],
        ),
    }
    for name, (changed, arguments) in changes.items():
        yield name, {**settings, **changed}, arguments


def test_mistakes_tell_no_secret_with_tracebacks_or_without(settings: dict[str, str], tmp_path: Path):
    (tmp_path / "password").write_text(CANARY)
    (tmp_path / "reviewloop.toml").write_text("")
    tried = [(*mistake, debug) for mistake in _mistakes(settings) for debug in ([], ["--debug"])]
    with ThreadPoolExecutor(8) as pool:  # a client whom Kafka refuses tries again for ten seconds
        outcomes = pool.map(lambda one: command(tmp_path, one[1], *one[3], *one[2]), tried)
        for (name, _, _, debug), outcome in zip(tried, outcomes, strict=True):
            assert outcome.code != 0, name
            assert ("Traceback" in outcome.printed) == bool(debug), (name, outcome.printed)
            _assert_silent(outcome.printed)


def test_a_settings_file_with_a_mistake_tells_no_secret(tmp_path: Path):
    for text in (
        f'[database]\npassword = "{CANARY}"\nurl = "{CANARY}\n',
        f'[database]\npasswrod = "{CANARY}"\n',
        f'[kafka]\nsasl_password = ["{CANARY}"]\n',
    ):
        (tmp_path / "reviewloop.toml").write_text(text)
        for debug in ([], ["--debug"]):
            outcome = command(tmp_path, {}, *debug, "config", "show")
            assert outcome.code != 0, outcome.printed
            _assert_silent(outcome.printed)


def test_no_secret_stands_in_a_process_list(settings: dict[str, str], tmp_path: Path):
    """What `ps` shows of the workers, their parent included; the environment is their owner's alone."""
    process = subprocess.Popen(
        new_process("consume", "--workers", 2), env=make_environment(**settings), cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while len(shown := _command_lines(process.pid)) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for line in shown:
        _assert_silent(line)


def _command_lines(group: int) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):
            continue
    return found
