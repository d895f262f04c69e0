"""What the demo's night prints: each line fits the terminal, and sentences stand below each other."""

from datetime import UTC, datetime

import pytest

from reviewloop.cli.demo import _print_night, _say
from reviewloop.demo.loop import LabelAgreement, LoopResult
from reviews.training_run import TrainingRun
from trainer.gate.verdict import Check, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = "The candidate's macro-F1 is +12.5 points (+1.2 to +20.3) from that of the active adapter on the rows"


def _result(verdict: Verdict) -> LoopResult:
    run = TrainingRun(1, "first-night", "manual", "promoted", "done", NOW, NOW, verdict=verdict.to_json())
    rows = {"first-night-zero-shot-0123456789ab": 342, "first-night-0123456789ab": 102}
    return LoopResult(run, 240, rows, LabelAgreement(0.38, 48, 102), LabelAgreement(0.62, 64, 102))


@pytest.mark.parametrize("columns", [80, 120])
def test_every_line_fits_the_terminal_and_no_word_is_lost(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    floor = Check("floor", passed=True, value=0.5, limit=0.4, detail=f"{LONG}: floor.")
    improvement = Check("improvement", passed=False, value=0.5, limit=0.4, detail=f"{LONG}: improvement.")
    _print_night(_result(Verdict((floor, improvement))))
    _say("Making a zero-shot adapter: no review is labelled yet (PyTorch takes some seconds to start)")
    printed, said = capsys.readouterr()
    lines = [*printed.splitlines(), *said.splitlines()]
    assert max(map(len, lines)) <= columns
    sentences = " ".join(printed.split())
    assert f"pass floor {LONG}: floor. FAIL improvement {LONG}: improvement." in sentences
    begins = [line.index("The candidate") for line in lines if "The candidate" in line]
    assert len(begins) == 2
    assert len(set(begins)) == 1
    folded = [line for line in lines if line.startswith(" " * begins[0])]
    assert folded, "a line that does not fit goes on below its own beginning"


def test_where_there_is_no_terminal_a_check_is_one_line(capsys):
    _print_night(_result(Verdict((Check("floor", passed=True, value=0.5, limit=0.4, detail=LONG),))))
    assert f"  pass  floor  {LONG}" in capsys.readouterr().out.splitlines()
