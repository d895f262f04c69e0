"""What the gate promotes and what it refuses: simulated pairs of adapters, for one night and for thirty."""

from collections import Counter
from dataclasses import replace

import numpy as np

from benchmarks.figures import report, report_machine
from benchmarks.simulated_adapters import ACCURACY, Difference, answers, evidence, truths, worse_in
from trainer.gate.evidence import Evidence, stream_weights
from trainer.gate.judge import improves, judge
from trainer.gate.statistics import better_by_chance, resampled_sums, score, tallies
from trainer.settings import GateSettings

ROWS = 1000
PAIRS = 1000
FEWER = 300  # where the answer is far from its limit
FEW = 100  # where it is farther still
SETTINGS = GateSettings()
QUICK = GateSettings(resamples=300)
EQUAL, BETTER = Difference(0.06, 0.06), Difference(0.075, 0.045)


def main(_data=None):
    report_machine()
    one_night("equal", EQUAL, PAIRS)
    one_night("3 points better", BETTER, PAIRS)
    one_night("1 point better", Difference(0.065, 0.055), FEWER)
    one_night("5 points better", Difference(0.085, 0.035), FEWER)
    one_night("1 point worse", Difference(0.055, 0.065), FEWER)
    harmful()
    small_sets()
    uncertain_rows()


def share(figure, hits, trials):
    """Report a share with its 95 % interval (Wilson 1927)."""
    rate, z = hits / trials, 1.96
    middle, scale = rate + z * z / (2 * trials), 1 + z * z / trials
    half = z * np.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)
    report(figure, [(middle - half) / scale, rate, (middle + half) / scale], "share")


def one_night(name, difference, pairs):
    """The whole gate and each of its checks on a first night."""
    random, passed = np.random.default_rng(1), Counter()
    for seed in range(pairs):
        verdict = judge(evidence(random, ROWS, difference), SETTINGS, attempts_before=0, seed=seed)
        passed.update(check.name for check in verdict.checks if check.passed)
        passed["whole gate"] += verdict.promote
    for check in ("improvement", "whole gate"):
        share(f"gate.one_night.{name}.{check}", passed.pop(check), pairs)
    for check, count in sorted(passed.items()):
        if count < pairs:
            share(f"gate.one_night.{name}.{check} alone", count, pairs)


def harmful():
    """Candidates that gain 6 points everywhere, and lose 10 or 20 in one part, or are far too sure."""
    parts = {
        "a product of 28 %": lambda given: np.array(given.segments["product"]) == "product 0",
        "a source of 10 %": lambda given: np.array(given.segments["source"]) == "source 2",
        "a class of 15 %": lambda given: given.truth == 1,
        "the audit rows": lambda given: given.is_audit,
    }
    for name, part in parts.items():
        for points in (0.1, 0.2):
            random, promoted = np.random.default_rng(2), 0
            for seed in range(FEW):
                given = evidence(random, ROWS, Difference(0.09, 0.03))
                given = worse_in(random, given, part(given), points)
                promoted += judge(given, QUICK, attempts_before=0, seed=seed).promote
            share(f"gate.harmful.{100 * points:.0f} points lost in {name}.promoted", promoted, FEW)
    for sharper in (1.5, 3.0):
        random, promoted = np.random.default_rng(3), 0
        for seed in range(FEW):
            given = evidence(random, ROWS, Difference(0.09, 0.03), sharper)
            promoted += judge(given, QUICK, attempts_before=0, seed=seed).promote
        share(f"gate.harmful.logits times {sharper}.promoted", promoted, FEW)


def small_sets():
    """Equal adapters on 200 rows, 4 % differ: the randomization test beside the percentile bootstrap."""
    random, levels = np.random.default_rng(4), (0.05, 0.005)
    chances = {"randomization": [], "bootstrap": []}
    for seed in range(PAIRS):
        truth = truths(random, 200)
        right = random.random(200) < ACCURACY
        before = answers(random, truth, right)
        now = Difference(0.02, 0.02).flip(random, right)
        after = np.where(now == right, before, answers(random, truth, now))
        _, chance = better_by_chance(
            truth, before, after, weights=np.ones(200), labels=3, metric="macro_f1", level=0.005, seed=seed
        )
        chances["randomization"].append(chance)
        chances["bootstrap"].append(bootstrapped(truth, before, after, seed))
    for name, values in chances.items():
        for level in levels:
            share(f"gate.small_sets.{name} at {level}", int((np.array(values) <= level).sum()), PAIRS)


def bootstrapped(truth, before, after, seed):
    """The share of resamples in which the candidate is no better: Koehn's p-value."""
    columns = np.hstack([tallies(truth, before, 3), tallies(truth, after, 3)])
    old, new = np.split(resampled_sums(columns, 2000, seed), 2, axis=1)
    return float((score(new, 200, "macro_f1") <= score(old, 200, "macro_f1")).mean())


def uncertain_rows():
    """Test rows that the queue drew by uncertainty: a candidate that trades sure rows for unsure ones.

    It wins among reviews of small margin what it loses among the others: on the stream both are as good.
    """
    for name, wins, loses in (
        ("as good on the stream", 0.06, 0.06),
        ("3 points better everywhere", 0.0, 0.0),
    ):
        random, weighted, plain = np.random.default_rng(5), 0, 0
        for seed in range(FEW):
            given, margin = drawn_by_margin(random, wins, loses)
            weighed = replace(given, weights=stream_weights(given.is_audit, given.active.argmax(1), margin))
            plain += improves(given, QUICK, 0, seed).passed
            weighted += improves(weighed, QUICK, 0, seed).passed
        share(f"gate.uncertain_rows.{name}.improvement, unweighted", plain, FEW)
        share(f"gate.uncertain_rows.{name}.improvement, weighted", weighted, FEW)


def drawn_by_margin(random, trade_wins, trade_loses):
    """250 audit rows and 750 test rows of a stream of 8,000, drawn as the queue draws; and their margins."""
    stream = 8000
    margin = random.beta(2, 1.3, stream)
    is_audit = np.arange(stream) < 250
    wish = np.where(is_audit, 0, 0.4 / stream + 0.6 * (1 - margin) ** 2 / ((1 - margin) ** 2).sum())
    rows = np.concatenate([np.arange(250), random.choice(stream, 750, replace=False, p=wish / wish.sum())])
    margin, truth = margin[rows], truths(random, len(rows))
    right = random.random(len(rows)) < ACCURACY
    unsure = margin < 0.611  # the median of the stream
    tilt = np.where(unsure, 1, -1)
    wins = np.where(trade_wins, 0.06 + tilt * trade_wins / 2, 0.075)
    loses = np.where(trade_loses, 0.06 - tilt * trade_loses / 2, 0.045)
    now = Difference(wins, loses).flip(random, right)
    before = answers(random, truth, right)
    after = np.where(now == right, before, answers(random, truth, now))
    sure = np.eye(3) * 0.7 + 0.1
    labels = ("negative", "neutral", "positive")
    return Evidence(truth, sure[before], sure[after], labels, np.arange(len(rows)) < 250), margin


if __name__ == "__main__":
    main()
