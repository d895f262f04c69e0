"""The load-and-query probe: what will be fetched from the database answers as the candidate did."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from classifier.adapter_store import write_files
from reviews.errors import AdapterError, ModelError
from trainer.gate.verdict import Check
from trainer.nightly.evaluating import Scoring, answers
from trainer.nightly.snapshot import HELD_OUT, Snapshot

_TOLERANCE = 1e-3
_ROWS = 32


def probe(
    files: Mapping[str, bytes],
    scratch: Path,
    load: Callable[[Path], Scoring],
    snapshot: Snapshot,
    expected: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> Check:
    """The check ``probe``: loaded as a worker loads it, the adapter answers as it did when it was judged.

    Args:
        files: As the database gives them back.
        scratch: Where they may be written.
        load: A directory to a classifier, which proves itself while it is loaded.
        snapshot: Some of its held-out rows are asked.
        expected: float64 (held-out rows, labels), what the gate saw.
    """
    rows = snapshot.of(*HELD_OUT)[:_ROWS]
    try:
        found = answers(load(write_files(files, scratch)), rows, snapshot.names)
    except (AdapterError, ModelError) as err:
        return Check("probe", passed=False, value=1.0, limit=_TOLERANCE, detail=str(err))
    worst = float(np.abs(found - expected[: len(rows)]).max(initial=0.0))
    said = f"Fetched from the database and loaded, it answers {len(rows)} rows within {worst:.1g} of before."
    return Check("probe", passed=worst <= _TOLERANCE, value=worst, limit=_TOLERANCE, detail=said)
