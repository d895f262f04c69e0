"""What comes through by mistake where cross-checked rows are evidence: ten nights from the first label on."""

import os

import numpy as np

from benchmarks.figures import report, report_machine
from benchmarks.gate_nights import tonight
from benchmarks.gate_power import BETTER, EQUAL, share
from benchmarks.simulated_adapters import ACCURACY, LABELS, answers, probabilities, truths
from trainer.fitting.fit_data import SplitPredictions
from trainer.gate.evidence import Evidence
from trainer.gate.judge import enough_rows, improves, judge
from trainer.nightly.cross_checks import Checked, RecipeChecks, choose_recipe, held_out_by_folds
from trainer.settings import GateSettings

NIGHTS = 10
CHAINS = int(os.environ.get("REVIEWLOOP_BENCH_CHAINS", "150"))
LABELS_A_NIGHT = 50
SLICES = ("audit", "test", "train")  # validation rows are in the cross-checks
SHARES = (0.16, 0.17, 0.67)  # of a night's answers, as the simulated plans have them
FOLDS = 3
RECIPES = 6
SETTINGS = GateSettings()
SCREENING = SETTINGS.model_copy(update={"resamples": 1})  # the interval it is spared decides nothing


def main(_data=None):
    report_machine()
    for scene, difference, kept in (
        ("equal, anew", EQUAL, 0.0),
        ("equal, alike", EQUAL, 0.7),
        ("3 points better, alike", BETTER, 0.7),
    ):
        for rule, is_nested in (("best without the fold", True), ("best of all", False)):
            random, name = np.random.default_rng(8), f"gate.cross_checks.{scene}.{rule}"
            months = [_month(random, difference, kept, chain, is_nested=is_nested) for chain in range(CHAINS)]
            for night in (3, NIGHTS):
                early = sum(any(at <= night for at in nights) for nights in months)
                share(f"{name}.promoted by night {night}", early, CHAINS)
            report(f"{name}.promotions", [sum(map(len, months)) / CHAINS], "a month")


def _month(random, difference, kept, chain, *, is_nested):
    """The nights, from 1, on which the whole gate promotes the best of several recipes; a gain ends it."""
    rows = NIGHTS * LABELS_A_NIGHT
    truth, right, ease = truths(random, rows), random.random(rows) < ACCURACY, random.random(rows)
    active, habit = answers(random, truth, right), random.random((RECIPES, rows))
    of_slice, fold = random.choice(SLICES, rows, p=SHARES), random.integers(0, FOLDS, rows)
    is_new, attempts, promoted = np.ones(rows, np.bool_), 0, []
    for night in range(1, NIGHTS + 1):
        there = np.arange(rows) < night * LABELS_A_NIGHT
        train = there & is_new & (of_slice == "train")
        nights = [tonight(random, right, own, kept, difference) for own in habit]
        said = [np.where(now == right, active, answers(random, truth, now)) for now in nights]
        recipes = [_checks(truth, one, train, fold) for one in said]
        best = choose_recipe(recipes)
        found = held_out_by_folds(recipes if is_nested else [recipes[best]], len(LABELS))
        held_out = np.flatnonzero(there & np.isin(of_slice, ("audit", "test")))
        places = np.concatenate([held_out, np.array(found.rows, np.int64)])
        shown = np.concatenate([said[best][held_out], found.said.argmax(axis=1)])
        sure = [
            probabilities(random, labels, labels == truth[places], ACCURACY, ease[places])
            for labels in (active[places], shown)
        ]
        given = Evidence(truth[places], *sure, LABELS, of_slice[places] == "audit")
        if not enough_rows(given, SETTINGS).passed:
            continue
        attempts += 1
        if _promoted(given, attempts - 1, chain * NIGHTS + night):
            promoted.append(night)
            right, active, attempts = nights[best], said[best], 0
            is_new &= ~train
            if difference.wins > difference.loses:
                break
    return promoted


def _promoted(given, attempts_before, seed):
    if not improves(given, SCREENING, attempts_before, seed).passed:
        return False
    return judge(given, SETTINGS, attempts_before=attempts_before, seed=seed).promote


def _checks(truth, said, there, fold):
    """A recipe's checks; positions stand for rows."""
    folds = [np.flatnonzero(there & (fold == one)) for one in range(FOLDS)]
    return RecipeChecks(
        _predictions(truth, said, np.empty(0, np.int64)),
        tuple(Checked(tuple(rows.tolist()), _predictions(truth, said, rows)) for rows in folds),
    )


def _predictions(truth, said, rows):
    return SplitPredictions(np.eye(len(LABELS))[said[rows]], truth[rows])
