"""Is a change found, how soon, and how often is there a false alarm? The detector beside usual ones.

``clothing_stream`` with its first 5,000 (shuffled) rows as the reference, and four streams of the rest:
nothing changes; ``movies_stream`` takes over at a random point; movies mix in from 5 to 50 % over 5,000
reviews; and negative and neutral reviews of clothes become four times as frequent. 20 seeds each.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.figures import report, report_machine
from benchmarks.peers.environments import peer_python
from benchmarks.scored_streams import LABELS, ScoredStream, scored_streams
from drift.divergence import kolmogorov_smirnov
from drift.online import Detector
from drift.online_scores import Binning
from drift.rows import ReviewRows
from drift.settings import WatchSettings

SEEDS = 20
REFERENCE = 5_000
STREAM = 5_000
STEP = 10
BATCH = 256
WORKERS = 4
SECONDS_A_REVIEW = 60
STREAMS = ("no drift", "break", "gradual", "classes")
IN_TIME = {"no drift": STREAM, "break": 300, "gradual": STREAM // 2, "classes": 300}
SHORT_RUN_LENGTH = 20_000
# What a fixed schedule of tests does: the last 200 reviews every 200, at 1 %.
KS_REVIEWS, KS_LEVEL = 200, 0.01


@dataclass(frozen=True)
class Stream:
    """One stream and where it changes.

    Attributes:
        name: Which of the four.
        rows: The reviews.
        change: The row from which on it is another; None: nowhere.
    """

    name: str
    rows: ReviewRows
    change: int | None


@dataclass
class Outcome:
    """What came of one seed.

    Attributes:
        delays: By detector and stream: reviews from the change to the alarm; None without one.
        kinds: By stream, what the first alarm calls the change.
        series: By stream, the confidences of reference and stream, for the peer.
        changes: By stream, where it changes.
        false_alarms: Without drift, at a short run length.
        setup_seconds: Processor time of making the detector.
        batch_ms: Processor time of each batch of 256.
    """

    delays: dict[tuple[str, str], float | None]
    kinds: dict[str, str]
    series: dict[str, list[float]]
    changes: dict[str, int | None]
    false_alarms: int
    setup_seconds: float
    batch_ms: list[float]


def main(data: Path | None = None) -> None:
    report_machine()
    scored_streams(data)  # scored once, before many ask
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        outcomes = list(pool.map(run_seed, [data] * SEEDS, range(SEEDS)))
    series = [(outcome, stream) for outcome in outcomes for stream in STREAMS]
    alarms = adwin_alarms([outcome.series[stream] for outcome, stream in series])
    for (outcome, stream), found in zip(series, alarms, strict=True):
        outcome.delays["ADWIN on confidence", stream] = _first_after(outcome.changes[stream], found)
    for key in outcomes[0].delays:
        _say(*key, [outcome.delays[key] for outcome in outcomes])
    for stream in STREAMS:
        seen = [outcome.kinds.get(stream) for outcome in outcomes]
        counts = {kind: seen.count(kind) for kind in ("texts", "classes")}
        print(json.dumps({"figure": f"kind of the first alarm, {stream}", **counts}), flush=True)
    figure = f"false alarms in {SEEDS * STREAM:,} reviews, run length {SHORT_RUN_LENGTH:,}"
    value = sum(outcome.false_alarms for outcome in outcomes)
    print(json.dumps({"figure": figure, "value": value, "stated": SEEDS * STREAM / SHORT_RUN_LENGTH}))
    report("making the detector, CPU", [outcome.setup_seconds for outcome in outcomes], "s")
    batches = [milliseconds for outcome in outcomes for milliseconds in outcome.batch_ms]
    report("256 reviews through the detector, CPU", batches, "ms")


def run_seed(data: Path | None, seed: int) -> Outcome:
    """All streams of one seed through every detector that runs here."""
    clothing, movies = scored_streams(data)
    reference, streams = make_streams(clothing, movies, seed)
    started = time.process_time()
    binning = Binning(reference)
    detector = Detector(reference, WatchSettings(), seed, binning)
    outcome = Outcome({}, {}, {}, {}, 0, time.process_time() - started, [])
    outcome.false_alarms = _at_a_short_run_length(detector, reference, binning, streams[0])
    for stream in streams:
        name, change = stream.name, stream.change
        outcome.changes[name] = change
        outcome.series[name] = [*reference.confidence.tolist(), *stream.rows.confidence.tolist()]
        outcome.delays["always", name] = _first_after(change, [(change or 0) + STEP])
        outcome.delays["never", name] = None
        outcome.delays["KS on confidence", name] = _first_after(change, ks_alarms(reference, stream.rows))
        outcome.delays["this project", name] = _first_after(change, _watched(detector, stream, outcome))
    return outcome


def _at_a_short_run_length(
    detector: Detector, reference: ReviewRows, binning: Binning, stream: Stream
) -> int:
    """False alarms where they are to come often, so that there is something to count."""
    settings = WatchSettings(average_run_length=SHORT_RUN_LENGTH, cool_down_reviews=100)
    threshold = replace(detector.threshold, average_run_length=SHORT_RUN_LENGTH)
    eager = Detector(reference, settings, binning=binning, threshold=threshold)
    return len(eager.update(stream.rows))


def make_streams(
    clothing: ScoredStream, movies: ScoredStream, seed: int
) -> tuple[ReviewRows, tuple[Stream, ...]]:
    """A reference and the four streams, none of which has a row of it."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(clothing.texts))
    rest = order[REFERENCE : REFERENCE + STREAM]
    films = random.permutation(len(movies.texts))
    change = int(random.integers(500, 3_500))
    is_film = random.random(STREAM) < np.linspace(0.05, 0.5, STREAM)
    next_film = np.cumsum(is_film) - 1
    gradual = [
        (movies, films[next_film[row]]) if film else (clothing, rest[row]) for row, film in enumerate(is_film)
    ]
    rare = clothing.truth[rest] != 2
    weights = np.where(rare, 0.4 / rare.sum(), 0.6 / (~rare).sum())
    classes = [*rest[:1000], *random.choice(rest, 2_000, p=weights)]
    picks = {
        "no drift": ([(clothing, row) for row in rest], None),
        "break": (
            [*((clothing, row) for row in rest[:change]), *((movies, row) for row in films[:1000])],
            change,
        ),
        "gradual": (gradual, 0),
        "classes": ([(clothing, row) for row in classes], 1000),
    }
    reference = to_rows([(clothing, row) for row in order[:REFERENCE]], 0)
    return reference, tuple(
        Stream(name, to_rows(chosen, REFERENCE), place) for name, (chosen, place) in picks.items()
    )


def to_rows(chosen: Sequence[tuple[ScoredStream, int]], first: int) -> ReviewRows:
    """Reviews a minute apart."""
    times = (first + np.arange(len(chosen))) * SECONDS_A_REVIEW
    count = len(chosen)
    return ReviewRows(
        LABELS,
        np.arange(count),
        times * 1_000_000,
        times,
        [stream.texts[row] for stream, row in chosen],
        [stream.products[row] for stream, row in chosen],
        [None] * count,
        np.stack([stream.probabilities[row] for stream, row in chosen]),
        np.array([stream.truth[row] for stream, row in chosen]),
        np.zeros(count, np.bool_),
    )


def _watched(detector: Detector, stream: Stream, outcome: Outcome) -> list[int]:
    """The alarms of this project's detector, fed with batches of 256."""
    detector.forget()
    alarms = []
    for start in range(0, len(stream.rows), BATCH):
        batch = stream.rows.take(np.arange(start, min(start + BATCH, len(stream.rows))))
        started = time.process_time()
        alarms += detector.update(batch)
        if len(batch) == BATCH:
            outcome.batch_ms.append((time.process_time() - started) * 1000)
    after = [alarm for alarm in alarms if alarm.after_reviews > (stream.change or 0)]
    if after:
        outcome.kinds[stream.name] = after[0].kind
    return [alarm.after_reviews for alarm in alarms]


def ks_alarms(reference: ReviewRows, rows: ReviewRows) -> list[int]:
    """A Kolmogorov-Smirnov test of each 200 reviews' confidence, at 1 %."""
    weights = np.full(len(reference), 1 / len(reference))
    alarms = []
    for end in range(KS_REVIEWS, len(rows) + 1, KS_REVIEWS):
        window = rows.confidence[end - KS_REVIEWS : end]
        if kolmogorov_smirnov(reference.confidence, window, weights)[1] < KS_LEVEL:
            alarms.append(end)
    return alarms


def adwin_alarms(series: Sequence[Sequence[float]]) -> list[list[int]]:
    """River's ADWIN with its defaults over each series, warmed up with the reference at its beginning."""
    script = Path(__file__).parent / "peers" / "river_adwin.py"
    done = subprocess.run(
        [str(peer_python("river")), str(script)],
        input=json.dumps(series), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [[place - REFERENCE for place in found if place > REFERENCE] for found in json.loads(done.stdout)]


def _first_after(change: int | None, alarms: Sequence[int]) -> float | None:
    """Reviews from the change, or from the beginning where there is none, to the first alarm after it."""
    later = [alarm - (change or 0) for alarm in alarms if alarm > (change or 0)]
    return float(later[0]) if later else None


def _say(name: str, stream: str, values: Sequence[float | None]) -> None:
    alarms = [value for value in values if value is not None]
    line = {"figure": f"{stream}: {name}", "streams": len(values), "alarmed": len(alarms)}
    if alarms:
        line |= {"median": float(np.median(alarms)), "latest": max(alarms)}
        line |= {f"within_{IN_TIME[stream]}": sum(alarm <= IN_TIME[stream] for alarm in alarms)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
