"""When an adapter that serves is taken back, and how rarely that is a mistake."""

from itertools import product
from math import exp, log

import numpy as np
import pytest

from tests.unit.trainer.gate.made_up import answers
from trainer.gate.rollback import should_roll_back
from trainer.gate.statistics import log_stake
from trainer.settings import GateSettings


def look(both_right, losses, wins):
    truth = np.zeros(both_right + losses + wins, np.int64)
    active = np.repeat([0, 1, 0], [both_right, losses, wins])
    previous = np.repeat([0, 0, 1], [both_right, losses, wins])
    alike = np.ones(len(truth))
    return should_roll_back(truth, answers(active), answers(previous), alike, GateSettings())


def test_seven_losses_and_no_win_are_enough_and_six_are_not():
    # 2^7 / 4 less a trifle = 31.9 is over 1 / 0.05; six losses make 18.1.
    assert not look(50, losses=7, wins=0).passed
    assert look(50, losses=6, wins=0).passed


def test_what_it_says_counts_both_adapters_on_the_same_rows():
    check = look(80, losses=15, wins=5)
    assert check.name == "audit"
    assert "right on 85.0 % and its predecessor on 95.0 %" in check.detail
    assert check.limit == pytest.approx(log(20))


def test_losses_that_were_drawn_more_often_than_wins_roll_nothing_back():
    # 30 rare reviews lost, drawn ten times as often as the others, of which 4 are won: better on the stream.
    truth, rare = np.zeros(34, np.int64), np.arange(34) < 30
    active, previous = answers(np.where(rare, 1, 0)), answers(np.where(rare, 0, 1))
    assert should_roll_back(truth, active, previous, np.where(rare, 0.1, 1.0), GateSettings()).passed
    assert not should_roll_back(truth, active, previous, np.ones(34), GateSettings()).passed


def test_a_bet_on_weighted_losses_is_fair_where_losses_weigh_what_wins_do():
    # Rare rows are drawn with a chance of 10 / 11 and weigh 0.1: losses and wins weigh the same in the mean.
    kinds = ((10 / 11, 0.1, True), (1 / 11, 1.0, False))
    for rows in (1, 4, 8):
        expected = 0.0
        for ways in product(kinds, repeat=rows):
            lost = np.array([weight for _, weight, is_loss in ways if is_loss])
            won = np.array([weight for _, weight, is_loss in ways if not is_loss])
            expected += float(np.prod([chance for chance, _, _ in ways])) * exp(log_stake(lost, won))
        assert expected == pytest.approx(1)


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
        stakes = [log_stake(np.ones(lost), np.ones(row - lost)) for lost in range(row + 1)]
        over = np.array([2 * lost > row and stake >= log(20) for lost, stake in enumerate(stakes)])
        stopped += float(reach[over].sum())
        reach[over] = 0
    assert 0.02 < stopped <= 0.05
