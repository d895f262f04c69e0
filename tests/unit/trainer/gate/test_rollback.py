"""When an adapter that serves is taken back, and how rarely that is a mistake."""

from math import log

import numpy as np
import pytest

from tests.unit.trainer.gate.made_up import answers
from trainer.gate.rollback import log_stake, should_roll_back
from trainer.settings import GateSettings


def look(both_right, losses, wins):
    truth = np.zeros(both_right + losses + wins, np.int64)
    active = np.repeat([0, 1, 0], [both_right, losses, wins])
    previous = np.repeat([0, 0, 1], [both_right, losses, wins])
    return should_roll_back(truth, answers(active), answers(previous), GateSettings())


def test_seven_losses_and_no_win_are_enough_and_six_are_not():
    # 2^7 / 4 less a trifle = 31.9 is over 1 / 0.05; six losses make 18.1.
    assert not look(50, losses=7, wins=0).passed
    assert look(50, losses=6, wins=0).passed


def test_what_it_says_counts_both_adapters_on_the_same_rows():
    check = look(80, losses=15, wins=5)
    assert check.name == "audit"
    assert "right on 85.0 % and its predecessor on 95.0 %" in check.detail
    assert check.limit == pytest.approx(log(20))


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (0, 40), (20, 20), (30, 25)])
def test_an_adapter_that_is_no_worse_stays(losses, wins):
    assert look(100, losses, wins).passed


def test_no_audit_rows_roll_nothing_back():
    assert look(0, 0, 0).passed


def test_of_adapters_as_good_as_each_other_one_in_twenty_is_rolled_back_however_often_one_looks():
    # Exactly, by counting all ways through the first 150 rows that differ, with a look after each.
    reach, stopped = np.ones(1), 0.0  # chance of so many losses without a rollback so far
    for row in range(1, 151):
        reach = (np.append(reach, 0) + np.append(0, reach)) / 2
        over = np.array([2 * n > row and log_stake(n, row - n) >= log(20) for n in range(row + 1)])
        stopped += float(reach[over].sum())
        reach[over] = 0
    assert 0.02 < stopped <= 0.05
