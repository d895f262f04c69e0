import json

from typer.testing import CliRunner

from reviewloop.cli.local import app


def test_status_without_a_stack_exits_with_1_and_says_how_to_start_one():
    result = CliRunner().invoke(app, ["status", "--format", "json"])
    assert result.exit_code == 1
    assert "reviewloop local up" in result.stderr
    answer = json.loads(result.stdout)
    assert answer["kafka"]["bootstrap_servers"] is None
    assert answer["postgres"]["url"] is None
    assert (answer["kafka"]["running"], answer["postgres"]["running"]) == (False, False)


def test_down_without_a_stack_exits_with_0():
    assert CliRunner().invoke(app, ["down"]).exit_code == 0
