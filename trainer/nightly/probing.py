"""The load-and-query probe: what will be fetched from the database answers as the candidate did.

In bf16 the general engine's answer to a text depends a little on the texts beside it. So both are asked the
same rows in a batch of their own, and like is compared with like.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.adapters.store import write_files
from reviews.errors import AdapterError, ModelError
from trainer.gate.verdict import Check
from trainer.nightly.evaluating import Scoring, answers
from trainer.nightly.snapshot import HELD_OUT, Snapshot

_TOLERANCE = 1e-3
_ROWS = 32


def ask(scoring: Scoring, snapshot: Snapshot) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): the answers to the probe's rows, all in one batch.

    Args:
        scoring: Asked nothing before: an answer that it remembers would be that of another batch.
        snapshot: Its first held-out rows are the probe's.
    """
    return answers(scoring, snapshot.of(*HELD_OUT)[:_ROWS], snapshot.names)


def probe(
    files: Mapping[str, bytes],
    scratch: Path,
    load: Callable[[Path], Scoring],
    snapshot: Snapshot,
    expected: npt.NDArray[np.float64],
) -> Check:
    """The check ``probe``: loaded as a worker loads it, the adapter answers as it did when it was judged.

    Args:
        files: As the database gives them back.
        scratch: Where they may be written.
        load: A directory to a classifier, which proves itself while it is loaded.
        snapshot: Some of its held-out rows are asked.
        expected: float64 (rows, labels), the candidate's own answers as :func:`ask` gives them.
    """
    try:
        found = ask(load(write_files(files, scratch)), snapshot)
    except (AdapterError, ModelError) as err:
        return Check("probe", passed=False, value=1.0, limit=_TOLERANCE, detail=str(err))
    worst = float(np.abs(found - expected).max(initial=0.0))
    said = f"Fetched from the database and loaded, it answers {len(found)} rows within {worst:.1g} of before."
    return Check("probe", passed=worst <= _TOLERANCE, value=worst, limit=_TOLERANCE, detail=said)
