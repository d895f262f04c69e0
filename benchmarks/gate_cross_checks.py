"""What comes through by mistake where cross-checked rows are evidence: series of nights."""

import numpy as np

from benchmarks.figures import report_machine
from benchmarks.gate_nights import tonight
from benchmarks.gate_power import BETTER, EQUAL, share
from benchmarks.simulated_adapters import ACCURACY, LABELS, answers, truths
from trainer.fitting.fit_data import SplitPredictions
from trainer.gate.statistics import alpha_of_attempt, better_by_chance
from trainer.nightly.cross_checks import Checked, RecipeChecks, held_out_by_folds
from trainer.settings import GateSettings

NIGHTS = 10
CHAINS = 150
LABELS_A_NIGHT = 50
FOLDS = 3
RECIPES = 6
SETTINGS = GateSettings()


def main(_data=None):
    report_machine()
    for scene, difference, kept in (
        ("equal, anew", EQUAL, 0.0),
        ("equal, alike", EQUAL, 0.7),
        ("3 points better, alike", BETTER, 0.7),
    ):
        for rule, is_nested in (("best without the fold", True), ("best of all", False)):
            random = np.random.default_rng(8)
            nights = np.array([_month(random, difference, kept, is_nested=is_nested) for _ in range(CHAINS)])
            for night in (1, 3, NIGHTS):
                figure = f"gate.cross_checks.{scene}.{rule}.by night {night}"
                share(figure, int((nights <= night).sum()), CHAINS)


def _month(random, difference, kept, *, is_nested):
    """The night, from 1, on which a candidate of several recipes first seems better; 99: none."""
    rows = NIGHTS * LABELS_A_NIGHT
    truth, right = truths(random, rows), random.random(rows) < ACCURACY
    active, habit = answers(random, truth, right), random.random((RECIPES, rows))
    fold = random.integers(0, FOLDS, rows)
    for night in range(1, NIGHTS + 1):
        there = np.arange(rows) < night * LABELS_A_NIGHT
        recipes = []
        for own in habit:
            now = tonight(random, right, own, kept, difference)
            said = np.where(now == right, active, answers(random, truth, now))
            recipes.append(_checks(truth, said, there, fold))
        chosen = recipes if is_nested else [max(recipes, key=RecipeChecks.score)]
        found = held_out_by_folds(chosen, len(LABELS))
        at, said = np.array(found.rows), found.said
        level = alpha_of_attempt(night - 1, SETTINGS.alpha, SETTINGS.spending_exponent)
        gain, chance = better_by_chance(
            truth[at], active[at], said.argmax(axis=1), weights=np.ones(len(at)), labels=len(LABELS),
            metric="macro_f1", level=level, seed=night,
        )  # fmt: skip
        if gain > 0 and chance <= level:
            return night
    return 99


def _checks(truth, said, there, fold):
    """A recipe's checks; positions stand for rows."""
    folds = [np.flatnonzero(there & (fold == one)) for one in range(FOLDS)]
    return RecipeChecks(
        _predictions(truth, said, np.empty(0, np.int64)),
        tuple(Checked(tuple(rows.tolist()), _predictions(truth, said, rows)) for rows in folds),
    )


def _predictions(truth, said, rows):
    return SplitPredictions(np.eye(len(LABELS))[said[rows]], truth[rows])
