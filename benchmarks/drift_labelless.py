"""Accuracy without labels before and after a change, beside the truth and NannyML's CBPE on the same numbers.

Both learn their calibration on the same reference: 5,000 reviews of clothes, of which 5 % (the audit slice's
default) or all are labelled. The windows are clothes that follow, and movies.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drift_detection import REFERENCE, to_rows
from benchmarks.figures import report, report_machine
from benchmarks.peers.environments import peer_python
from benchmarks.scored_streams import ScoredStream, scored_streams
from drift.performance import calibrate, expected_performance, performance
from drift.rows import UNKNOWN, ReviewRows

SEEDS = 20
WINDOW = 3_000
SHARES = {"5 % labelled": 0.05, "all labelled": 1.0}


@dataclass(frozen=True)
class Case:
    """One window to be judged.

    Attributes:
        when: Before the change or after it.
        labels: How much of the reference is labelled, in words.
        reference: Reviews of clothes.
        labelled: bool (reference rows).
        window: What accuracy is asked of.
    """

    when: str
    labels: str
    reference: ReviewRows
    labelled: np.ndarray
    window: ReviewRows


def main(data: Path | None = None) -> None:
    report_machine()
    clothing, movies = scored_streams(data)
    cases = list(_cases(clothing, movies))
    peers = _nannyml(cases)
    errors: dict[str, list[float]] = {}
    for case, peer in zip(cases, peers, strict=True):
        calibration = calibrate(
            case.reference.probabilities, np.where(case.labelled, case.reference.truth, UNKNOWN)
        )
        ours = expected_performance(calibration.apply(case.window.probabilities), case.window.labels)
        confusion = np.zeros((3, 3))
        np.add.at(confusion, (case.window.truth, case.window.labels), 1)
        true = performance(confusion)
        for metric, name in (("accuracy", "accuracy"), ("macro_f1", "f1")):
            truth = getattr(true, metric)
            errors.setdefault(f"{metric} {case.when}, true", []).append(truth)
            key = f"{metric} {case.when}, {case.labels}"
            errors.setdefault(f"{key}, this project", []).append(getattr(ours, metric) - truth)
            errors.setdefault(f"{key}, NannyML", []).append(peer[name] - truth)
    for name, values in errors.items():
        report(name, [100 * value for value in values], "points")
        if "true" not in name:
            report(f"{name}, size of the error", [100 * abs(value) for value in values], "points")


def _cases(clothing: ScoredStream, movies: ScoredStream) -> Iterator[Case]:
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        order, films = random.permutation(len(clothing.texts)), random.permutation(len(movies.texts))
        reference = to_rows([(clothing, row) for row in order[:REFERENCE]], 0)
        before = to_rows([(clothing, row) for row in order[REFERENCE : REFERENCE + WINDOW]], 0)
        after = to_rows([(movies, row) for row in films[:WINDOW]], 0)
        for name, share in SHARES.items():
            labelled = random.random(REFERENCE) < share
            yield Case("before", name, reference, labelled, before)
            yield Case("after", name, reference, labelled, after)


def _nannyml(cases: Sequence[Case]) -> list[dict[str, float]]:
    """What NannyML expects of each window, fitted on the labelled rows of its reference."""
    script = Path(__file__).parent / "peers" / "nannyml_cbpe.py"
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.npz") for number in range(len(cases))]
        for path, case in zip(paths, cases, strict=True):
            known = case.reference.take(np.flatnonzero(case.labelled))
            np.savez(
                path,
                reference=known.probabilities, truth=known.truth, window=case.window.probabilities,
            )  # fmt: skip
        done = subprocess.run(
            [str(peer_python("nannyml")), "-W", "ignore", str(script), *map(str, paths)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
