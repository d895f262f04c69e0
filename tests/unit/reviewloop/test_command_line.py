"""The command line as a whole: quick help, exit codes, one-line errors."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from reviewloop.cli import app, main
from reviews.errors import WrongUse
from reviews.moments import parse_moment
from tests.command_tree import all_commands

_HEAVY = ("torch", "transformers", "peft", "sqlalchemy", "kafka", "pydantic", "psycopg", "alembic")
_SUMMARIES = typer.main.get_command(app).summaries
_COMMANDS_OF_GROUPS = [
    "local up",
    "local down",
    "local status",
    "db upgrade",
    "db status",
    "db index-text",
    "db roles",
    "topics create",
    "sources list",
    "sources try",
    "data retain",
    "data validate",
    "data stats",
    "data split",
    "adapters shadow",
    "adapters zero-shot",
    "adapters list",
    "adapters show",
    "adapters add",
    "adapters combine",
    "adapters activate",
    "adapters promote",
    "adapters prune",
    "adapters rollback",
    "adapters history",
    "adapters watch",
    "label import",
    "label export",
    "label publish",
    "label agreement",
    "label suspects",
    "label progress",
    "label set",
    "label consume",
    "label queue",
    "label queue fill",
    "task labels",
    "task rename-label",
    "task merge-labels",
    "task split-label",
    "task add-label",
    "task ask-again",
    "label-studio connect",
    "label-studio push",
    "label-studio pull",
    "trainer run",
    "trainer schedule",
    "trainer status",
    "trainer history",
    "trainer show",
    "dead-letters list",
    "dead-letters show",
    "dead-letters replay",
    "dead-letters discard",
    "offsets show",
    "offsets set",
    "sink run",
    "sink show",
    "sink remove",
    "drift report",
    "drift list",
    "drift watch",
    "console openapi",
    "console users",
    "console users add",
    "console users list",
    "console users role",
    "console users disable",
    "console users enable",
    "console users reset",
    "console tokens",
    "console tokens add",
    "console tokens list",
    "console tokens revoke",
    "config show",
    "config page",
]


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reviewloop", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_help_imports_no_command_and_nothing_heavy():
    code = (
        "import sys; from reviewloop.cli import main; sys.argv = ['reviewloop', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('reviewloop.')))\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, heavy = done.stdout.splitlines()[-2:]
    assert heavy == "[]"
    assert ours == str(["reviewloop.cli", "reviewloop.cli.lazy", "reviewloop.terminal"])


def test_the_version_is_the_one_installed():
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"reviewloop {version('reviewloop')}\n")


def test_the_commands_are_these():
    assert [name for name, _ in all_commands() if " " not in name] == ["", *_SUMMARIES]
    assert [name for name, _ in all_commands() if " " in name] == _COMMANDS_OF_GROUPS


def test_what_is_said_of_a_command_before_it_is_imported_is_what_it_says_itself():
    for name, command in all_commands():
        if name in _SUMMARIES:
            assert " ".join(command.help.split("\n\n")[0].split()) == _SUMMARIES[name]


def test_every_command_has_help_and_every_group_lists_its_commands():
    runner = CliRunner()
    for name, command in all_commands():
        shown = runner.invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, name
        first_line = command.help.split("\n")[0]
        assert first_line in shown.output, name
        for child, below in getattr(command, "commands", {}).items():
            assert below.hidden or f" {child} " in shown.output, (name, child)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("reviewloop d", ["demo", "db", "data", "dead-letters", "drift", "doctor"]),
        ("reviewloop dead-letters re", ["replay"]),
        ("reviewloop dead-letters list --st", ["--stage", "--state"]),
        ("reviewloop dead-letters list --stage sc", ["score"]),
        ("reviewloop label queue f", ["fill"]),
    ],
)
def test_a_shell_completes_commands_and_options(monkeypatch, capsys, typed, offered):
    monkeypatch.setenv("_REVIEWLOOP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert _main(monkeypatch) == 0
    assert capsys.readouterr().out.split() == offered


def test_commands_and_options_may_be_written_with_underscores(monkeypatch, capsys):
    assert _main(monkeypatch, "dead_letters", "list", "--no_such") == 2
    assert _main(monkeypatch, "query", "--min_confidence", "2") == 2
    no_option, out_of_range = capsys.readouterr().err.splitlines()
    assert "No such option: --no-such" in no_option
    assert "'--min-confidence'" in out_of_range


@pytest.mark.parametrize("command", [("consume",), ("label", "consume"), ("topics", "create")])
def test_two_topics_in_one_option_are_refused_in_one_line(monkeypatch, capsys, command):
    assert _main(monkeypatch, *command, "--topic", "a,b") == 2
    error = capsys.readouterr().err
    assert "must be the name of one topic" in error
    assert error.count("\n") == 1


def test_wrong_use_ends_with_2_and_one_line(monkeypatch, capsys):
    assert _main(monkeypatch, "query", "--since", "yesterday-ish") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: 'yesterday-ish' is not a time")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("query --no-such-option", "No such option: --no-such-option"),
        ("query --format json", "'json' is not one of 'table', 'csv', 'jsonl'"),
        ("query --limit some", "should be a valid integer"),
        ("publish x.csv --limit 99999999999999999999", "less than or equal to"),
        ("topics create --partitions 99999999999", "less than or equal to"),
        ("querry", "No such command 'querry'"),
        ("adapters activate", "Missing argument 'version'"),
        ("offsets show surplus", "unexpected extra argument"),
        (
            "dead-letters list --state lost",
            "'lost' is not one of 'waiting', 'replayed', 'discarded', 'superseded', 'all'",
        ),
        ("drift list --verdict none", "'none' is not one of 'stable', 'drift', 'unknown'"),
    ],
)
def test_a_command_line_that_cannot_be_read_ends_with_2_and_one_line(monkeypatch, capsys, arguments, says):
    assert _main(monkeypatch, *arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert " See 'reviewloop" in printed.err


def test_a_group_without_a_command_shows_its_help(monkeypatch, capsys):
    assert _main(monkeypatch, "db") == 2
    printed = capsys.readouterr()
    assert "upgrade" in printed.out
    assert "Error" not in printed.err


def test_an_error_that_nobody_foresaw_commands_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr("reviewloop.cli.app", lambda **_: 1 / int("0\x1b[2J".partition("\x1b")[0]))
    monkeypatch.setattr(sys, "argv", ["reviewloop"])
    with pytest.raises(ZeroDivisionError):
        main()
    sys.excepthook(ValueError, ValueError("\x1b[2Jgone"), None)
    assert "ValueError: ␛[2Jgone" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_is_not_a_terminal_gets_utf8_whatever_the_locale(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "reviewloop", "config", "page"],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert "HOST:PORT[,HOST:PORT…]" in done.stdout.decode()


def test_output_that_is_closed_is_no_error_of_ours():
    command = f"exec {sys.executable} -m reviewloop config show >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_output_that_cannot_be_written_is_one_line_and_a_failure(form):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reviewloop", "config", "show", "--format", form],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: The output cannot be written: No space left on device.\n"


def test_a_missing_database_is_wrong_use_that_says_how_to_start_one(monkeypatch, capsys):
    assert _main(monkeypatch, "query") == 2
    assert "reviewloop local up" in capsys.readouterr().err


def test_a_database_that_does_not_answer_ends_with_1_without_its_password(monkeypatch, capsys):
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", "postgresql://me:s3cret@127.0.0.1:1/reviews")
    assert _main(monkeypatch, "db", "status") == 1
    error = capsys.readouterr().err
    assert "cannot serve now" in error
    assert "s3cret" not in error


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["reviewloop", "query", "--since", "never"])
    with pytest.raises(WrongUse):
        main()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00+00:00"),
        ("90m", "2026-01-30T22:30:00+00:00"),
        ("2w", "2026-01-17T00:00:00+00:00"),
        ("20260131", "2026-01-31T00:00:00+00:00"),
        ("1769860800", "2026-01-31T12:00:00+00:00"),
    ],
)
def test_moments_are_iso_times_in_utc_or_ages(given, wanted):
    from datetime import UTC, datetime

    moment = parse_moment(given, now=datetime(2026, 1, 31, tzinfo=UTC))
    assert moment is not None
    assert moment.isoformat() == wanted


@pytest.mark.parametrize(
    "given",
    ["", " ", "2026-01-31+02:00", "2026-01-31x12:00", "999999w", "２d", "-5d", "2026-02-30", "31.01.2026"],
)
def test_what_could_be_two_moments_or_none_is_no_moment(given):
    with pytest.raises(WrongUse, match="is not a time: give ISO 8601"):
        parse_moment(given)


def test_what_a_command_logs_is_not_in_its_output(capsys):
    structlog.reset_defaults()
    assert CliRunner().invoke(app, ["config", "page"]).exit_code == 0
    structlog.get_logger().warning("number_format_forgotten")
    structlog.get_logger().info("number_format_decided")
    said = capsys.readouterr()
    assert said.out == ""
    assert "number_format_forgotten" in said.err
    assert "number_format_decided" not in said.err
