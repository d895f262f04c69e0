"""What promotions are worth: heads on real reviews, judged by the gate and measured on held-back rows.

Needs ``--data DIR`` with movies_stream.csv.gz and clothing_stream.csv.gz; of the latter, the rows whose text
has an odd hash, on which nothing was chosen. Active heads, fitted on few or many random rows, meet a
candidate: answers that the audit and the queue drew are dealt to the slices as a nightly run deals them,
heads are fitted and cross-checked from the base and from the head that served when the queue drew, and the
gate compares the better one with each active head on test rows, audit rows and the rows of the cross-checks.
Each comparison is a first attempt, whose level is the greatest. (Heads are not asked about calibration, as
always when heads alone are simulated.) Embeddings are cut to their 64 largest principal components, so that a
fit takes some hundredths of a second. Done seeds are kept, and an interrupted benchmark continues.
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.classifier_data import BASE
from benchmarks.figures import report, report_machine
from benchmarks.gate_power import share
from classifier.calibration import softmax
from classifier.settings import ClassifierSettings
from trainer.fitting.fit_data import SplitPredictions
from trainer.fitting.head import fit_head
from trainer.gate.evidence import Evidence, stream_weights
from trainer.gate.judge import gain_interval, judge, metric_of
from trainer.gate.statistics import alpha_of_attempt
from trainer.nightly.cross_checks import Checked, RecipeChecks, choose_recipe, held_out_by_folds
from trainer.selection.audit_draw import draw_chances, systematic_draw
from trainer.settings import GateSettings, NightlySettings, SelectionSettings, TrainerSettings
from trainer.simulation.experiment import uncalibrated
from trainer.simulation.fits import StreamRows
from trainer.simulation.stream import read_stream

CACHE = Path(os.environ.get("REVIEWLOOP_BENCH_CACHE", Path(tempfile.gettempdir()) / "gate_promotions"))
SEEDS = int(os.environ.get("REVIEWLOOP_BENCH_SEEDS", "40"))
SCENES = {  # file, half, held-back rows
    "clothing": ("clothing_stream.csv.gz", "odd", 2700),
    "movies": ("movies_stream.csv.gz", None, 2000),
}
ACTIVE, ANSWERS = (60, 60, 60, 100, 100, 100, 150, 150, 250, 250, 400, 600), (300, 700)
FIRST = 800  # rows that active heads are fitted on
QUEUE = SelectionSettings()
AUDITED = QUEUE.audit_items_per_night / (QUEUE.audit_items_per_night + QUEUE.items_per_night)
UNIFORM = 0.4  # share of what the queue draws
WIDTH = 64
PLAN, GATE = NightlySettings(), uncalibrated(GateSettings())
SCREENING = GATE.model_copy(update={"resamples": 1})  # the interval it is spared decides nothing


def main(data):
    if data is None:
        print("gate_promotions needs --data DIR with movies_stream and clothing_stream", file=sys.stderr)
        return
    report_machine()
    found = []
    for scene in SCENES:
        found += compared(scene, data)
        summed_up(f"gate.promotions.{scene}", [one for one in found if one["scene"] == scene])
    summed_up("gate.promotions.all", found)
    for one in found:
        if one["promoted"]:
            print(json.dumps(one), flush=True)


def compared(scene, data):
    """A line for each comparison; what the cache lacks is computed."""
    file, half, held_back = SCENES[scene]
    results = CACHE / f"promotions_{scene}.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    missing = sorted(set(range(SEEDS)) - {line["seed"] for line in lines})
    if missing:
        stream = read_stream([data / file], "sentiment", None, half)
        settings = ClassifierSettings(base_model=BASE, threads=1)
        rows = StreamRows(stream.rows.texts, settings, TrainerSettings().max_length_tokens, CACHE)
        whole = rows.features(None) - rows.features(None).mean(axis=0)
        columns = whole @ np.linalg.svd(whole, full_matrices=False)[2][:WIDTH].T
        truth = np.array(stream.rows.labels)
        for seed in missing:
            new = list(comparisons(columns, truth, held_back, seed))
            with results.open("a") as opened:
                opened.write("".join(json.dumps({"scene": scene, "seed": seed, **one}) + "\n" for one in new))
            print(f"{scene}: seed {seed}", file=sys.stderr, flush=True)
        return compared(scene, data)
    return [line for line in lines if line["seed"] < SEEDS]


@dataclass(frozen=True)
class Answers:
    """Rows that people answered: where they are, what drew them, and what that saw.

    Attributes:
        rows: int64 (rows).
        slices: Of each: audit, test, or train, with the validation rows.
        fold: int64 (rows): of the cross-check.
        predicted: int64 (rows): of the head by which the queue chose.
        margin: float64 (rows): the same head's.
        draw_weights: float64 (rows): of the audit rows, see ``trainer.selection.audit_draw``; 1 of others.
    """

    rows: np.ndarray
    slices: np.ndarray
    fold: np.ndarray
    predicted: np.ndarray
    margin: np.ndarray
    draw_weights: np.ndarray

    def of(self, *names):
        return np.flatnonzero(np.isin(self.slices, names))


def comparisons(columns, truth, held_back, seed):
    """Each active head with the candidate of each number of answers."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(truth))
    judged, first, later = np.split(order, [held_back, held_back + FIRST])
    classes = int(truth.max()) + 1
    chosen = [random.choice(first, rows, replace=False) for rows in ACTIVE]
    actives = [
        fit_head(columns[rows], truth[rows], classes, speaks_for=np.ones(len(rows))) for rows in chosen
    ]
    for count in ANSWERS:
        answers = drawn(random, columns, later, actives[0], count)
        train = truth[answers.rows[answers.of("train")]]
        if np.bincount(train, minlength=classes).min() < PLAN.min_class_rows:
            continue
        recipes = {
            name: recipe(columns, truth, answers, classes, centre)
            for name, centre in (("head-active", actives[0]), ("head-base", None))
        }
        for rows, active in zip(ACTIVE, actives, strict=True):
            evidence, head, name = gathered(columns, truth, answers, active, recipes)
            verdict = judge(evidence, SCREENING, attempts_before=0, seed=seed)
            if verdict.is_attempt:
                both = (softmax(one.logits(columns[judged])) for one in (active, head))
                known = Evidence(truth[judged], *both, evidence.labels, np.ones(len(judged), np.bool_))
                yield {
                    "active": rows, "answers": count, "recipe": name, "evidence": len(evidence.truth),
                    "promoted": verdict.promote, **difference(known, seed, with_interval=verdict.promote),
                }  # fmt: skip


def drawn(random, columns, later, scorer, count):
    """What the audit draws, and what the queue draws: evenly over the labels, with a uniform share."""
    said = softmax(scorer.logits(columns[later]))
    predicted, (second, best) = said.argmax(axis=1), np.sort(said, axis=1).T[-2:]
    shuffled, audited = random.permutation(len(later)), round(AUDITED * count)
    slice_, others = np.split(shuffled, [len(later) // 5])  # a small slice: rare labels become few in it
    chances, weights = draw_chances(said[slice_], audited, QUEUE.audit_even_share)
    audit = systematic_draw(chances, audited, random.random())
    of_label = np.bincount(predicted[others])[predicted[others]]
    wish = UNIFORM / len(others) + (1 - UNIFORM) / of_label / len(np.unique(predicted[others]))
    queue = random.choice(others, count - audited, replace=False, p=wish / wish.sum())
    # Heads learn validation rows, too, while recipes are cross-checked.
    slices = random.choice(("test", "train"), len(queue), p=(PLAN.test_share, 1 - PLAN.test_share))
    places = np.concatenate([slice_[audit], queue])
    return Answers(
        later[places],
        np.concatenate([np.full(audited, "audit"), slices]),
        random.integers(0, PLAN.cross_check_folds, count),
        predicted[places],
        (best - second)[places],
        np.concatenate([weights[audit], np.ones(len(queue))]),
    )


def recipe(columns, truth, answers, classes, centre):
    """The head on all training rows, and what fits without each fold of them say of it."""

    def fitted(places):
        rows = answers.rows[places]
        uncertain = answers.margin[places] < PLAN.uncertain_margin
        weights = np.where(uncertain, PLAN.uncertain_weight, 1.0)
        audit = answers.of("audit")
        audited = np.bincount(answers.predicted[audit], answers.draw_weights[audit], classes) + 1
        speaks_for = (audited / np.bincount(answers.predicted[places], minlength=classes).clip(1))[
            answers.predicted[places]
        ]
        return fit_head(columns[rows], truth[rows], classes, weights, centre=centre, speaks_for=speaks_for)

    def said(head, places):
        rows = answers.rows[places]
        return SplitPredictions(softmax(head.logits(columns[rows])), truth[rows])

    train = answers.of("train")
    folds = []
    for fold in range(PLAN.cross_check_folds):
        left_out = train[answers.fold[train] == fold]
        kept = train[answers.fold[train] != fold]
        folds.append(Checked(tuple(left_out.tolist()), said(fitted(kept), left_out)))
    head = fitted(train)
    return head, RecipeChecks(said(head, np.empty(0, np.int64)), tuple(folds))


def gathered(columns, truth, answers, active, recipes):
    """The evidence of a night, as ``trainer.nightly.held_out`` makes it; the best head, and its recipe."""
    checks = [said for _, said in recipes.values()]
    name = list(recipes)[choose_recipe(checks)]
    head = recipes[name][0]
    folds = held_out_by_folds(checks, int(truth.max()) + 1)
    held_out = answers.of("audit", "test")
    places = np.concatenate([held_out, np.array(folds.rows, np.int64)])
    rows = answers.rows[places]
    candidate = np.concatenate([softmax(head.logits(columns[answers.rows[held_out]])), folds.said])
    is_audit, draw_weights = answers.slices[places] == "audit", answers.draw_weights[places]
    evidence = Evidence(
        truth[rows],
        softmax(active.logits(columns[rows])),
        candidate,
        tuple(map(str, range(int(truth.max()) + 1))),
        is_audit,
        weights=stream_weights(is_audit, answers.predicted[places], answers.margin[places], draw_weights),
        draw_weights=draw_weights,
    )
    return evidence, head, name


def difference(known, seed, *, with_interval):
    """Macro-F1 of the candidate less that of the active head, in points, perhaps with its 95 % interval."""
    before = known.active.argmax(axis=1)
    gain = metric_of(known, known.candidate.argmax(axis=1), GATE) - metric_of(known, before, GATE)
    ends = gain_interval(known, before, GATE, seed) if with_interval else ()
    return {"points": round(100 * gain, 2), "interval": [round(100 * end, 2) for end in ends]}


def summed_up(name, found):
    promoted, level = (
        [one for one in found if one["promoted"]],
        alpha_of_attempt(0, GATE.alpha, GATE.spending_exponent),
    )
    report(f"{name}.comparisons", [len(found)], "comparisons")
    report(f"{name}.promotions", [len(promoted)], "promotions")
    report(f"{name}.level of a comparison", [level], "share")
    for truly, low, high in (
        ("better", 0, 100),
        ("no better", -100, 0),
        ("3 points worse or more", -100, -3),
    ):
        of_kind = [one for one in found if low < one["points"] <= high]
        hits = sum(one["promoted"] for one in of_kind)
        share(f"{name}.promoted of {len(of_kind)} that are truly {truly}", hits, max(1, len(of_kind)))
    for truly, is_so in (
        ("worse", lambda one: one["points"] < 0),
        ("worse by more than the interval", lambda one: one["interval"][1] < 0),
        ("better by more than the interval", lambda one: one["interval"][0] > 0),
    ):
        share(f"{name}.promotions that are {truly}", sum(map(is_so, promoted)), max(1, len(promoted)))
    points = sorted(one["points"] for one in promoted)
    report(f"{name}.gain of a promotion", points or [0.0], "points")


if __name__ == "__main__":
    main(None)
