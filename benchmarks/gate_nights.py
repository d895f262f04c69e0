"""Thirty nights on the same rows: what comes through by mistake, what comes through in time; and rollback."""

from functools import cache
from math import log

import numpy as np

from benchmarks.figures import report, report_machine
from benchmarks.gate_power import BETTER, EQUAL, ROWS, SETTINGS, share
from benchmarks.simulated_adapters import ACCURACY, LABELS, Difference, answers, probabilities, slices, truths
from trainer.gate.evidence import Evidence
from trainer.gate.judge import improves, judge
from trainer.gate.statistics import alpha_of_attempt, log_stake, tail

NIGHTS = 30
CHAINS = 2000
GATE_CHAINS = 300
RULES = {
    "0.05 every night": lambda _: 0.05,
    "0.05 / 30 every night": lambda _: 0.05 / NIGHTS,
    "0.05 spent as n^-2": lambda night: alpha_of_attempt(night, 0.05, 2.0),
    "0.1 spent as n^-1.5": lambda night: alpha_of_attempt(night, 0.1, 1.5),
    "0.1 spent as n^-1.2": lambda night: alpha_of_attempt(night, 0.1, 1.2),
}


def main(_data=None):
    report_machine()
    rules()
    gate_chains()
    rollback()


def rules():
    """Each rule on the same sign tests: candidates are fitted anew, or keep 70 % of what they had learnt."""
    scenes = {
        "equal, anew": (lambda _: EQUAL, 0.0),
        "equal, alike": (lambda _: EQUAL, 0.7),
        "3 points better, alike": (lambda _: BETTER, 0.7),
        "0.3 points better each night": (_growing, 0.7),
    }
    for scene, (difference, kept) in scenes.items():
        random = np.random.default_rng(6)
        chances = np.array([_sign_tests(random, difference, kept) for _ in range(CHAINS)])  # (chains, nights)
        ladder = np.array(chances < 0.159)  # the gain is more than its standard error
        for rule, level in RULES.items():
            passed = chances <= [level(night) for night in range(NIGHTS)]
            _by_night(f"gate.nights.{scene}.{rule}", passed)
        _by_night(f"gate.nights.{scene}.Ladder", ladder)


def _growing(night):
    gain = min(0.003 * (night + 1), 0.06)
    return Difference(0.06 + gain / 2, 0.06 - gain / 2)


def _by_night(figure, passed):
    for night in (1, 7, NIGHTS):
        share(f"{figure}.by night {night}", int(passed[:, :night].any(axis=1).sum()), len(passed))


def _sign_tests(random, difference, kept):
    """The p-values of a month in which nothing is promoted."""
    right = random.random(ROWS) < ACCURACY
    habit, chances = random.random(ROWS), []
    for night in range(NIGHTS):
        now = tonight(random, right, habit, kept, difference(night))
        losses, wins = int((right & ~now).sum()), int((now & ~right).sum())
        chances.append(tail(wins, wins + losses))
    return chances


def tonight(random, right, habit, kept, difference):
    """Which rows tonight's candidate has right: by habit where it keeps what was learnt, else by chance."""
    rows = len(right)
    luck = np.where(random.random(rows) < kept, habit, random.random(rows))
    return np.where(right, luck >= difference.loses / ACCURACY, luck < difference.wins / (1 - ACCURACY))


def gate_chains():
    """The whole gate as it runs: what it promotes is what the next night must beat."""
    for scene, difference, kept in (
        ("equal, anew", EQUAL, 0.0),
        ("equal, alike", EQUAL, 0.7),
        ("1 point worse, anew", Difference(0.055, 0.065), 0.0),
        ("3 points better until promoted, alike", BETTER, 0.7),
    ):
        random = np.random.default_rng(7)
        months = [_month(random, difference, kept, chain) for chain in range(GATE_CHAINS)]
        for night in (1, 7, NIGHTS):
            early = sum(any(at < night for at in nights) for nights in months)
            share(f"gate.month.{scene}.promoted by night {night}", early, GATE_CHAINS)
        report(f"gate.month.{scene}.promotions", [sum(map(len, months)) / GATE_CHAINS], "a month")


def _month(random, difference, kept, chain):
    """The nights, from 0, at which the gate promoted; a candidate that was better ends the month."""
    truth, groups, is_audit = truths(random, ROWS), slices(random, ROWS), random.random(ROWS) < 0.25
    right, habit, ease = random.random(ROWS) < ACCURACY, random.random(ROWS), random.random(ROWS)
    active, attempts, promoted = answers(random, truth, right), 0, []
    screening = SETTINGS.model_copy(update={"resamples": 1})  # the interval it is spared decides nothing
    for night in range(NIGHTS):
        now = tonight(random, right, habit, kept, difference)
        said = np.where(now == right, active, answers(random, truth, now))
        sure = [
            probabilities(random, labels, hits, ACCURACY, ease)
            for labels, hits in ((active, right), (said, now))
        ]
        given = Evidence(truth, *sure, LABELS, is_audit, groups)
        seed = chain * NIGHTS + night
        attempts += 1
        if not improves(given, screening, attempts - 1, seed).passed:
            continue
        if judge(given, SETTINGS, attempts_before=attempts - 1, seed=seed).promote:
            promoted.append(night)
            right, active, attempts = now, said, 0
            if difference.wins > difference.loses:
                break
    return promoted


def rollback():
    """Looks after each of 100 nights with 20 new audit rows a night."""
    for name, difference in {
        "as good": EQUAL,
        "as good, 30 % differ": Difference(0.15, 0.15),
        "3 points worse": Difference(0.045, 0.075),
        "5 points worse": Difference(0.035, 0.085),
        "10 points worse": Difference(0.02, 0.12),
    }.items():
        random = np.random.default_rng(8)
        ends = [_rolled_back(random, difference) for _ in range(CHAINS)]
        for night in (10, 30, 100):
            share(f"gate.rollback.{name}.by night {night}", sum(end < night for end in ends), CHAINS)


def _rolled_back(random, difference, rows_a_night=20, nights=100):
    """The night of the rollback, from 0; ``nights`` where there is none."""
    drawn = random.random((nights, rows_a_night))
    wins = (drawn < difference.wins).sum(axis=1).cumsum()
    losses = (drawn >= 1 - difference.loses).sum(axis=1).cumsum()
    enough = -log(SETTINGS.rollback_alpha)
    looks = (_stake(int(lost), int(won)) >= enough for lost, won in zip(losses, wins, strict=True))
    return next((night for night, over in enumerate(looks) if over), nights)


@cache  # the same counts come again and again
def _stake(losses, wins):
    return log_stake(np.ones(losses), np.ones(wins))


if __name__ == "__main__":
    main()
