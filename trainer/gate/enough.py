"""Whether there are enough labelled rows to judge at all."""

import numpy as np

from trainer.gate.evidence import Evidence
from trainer.gate.settings import GateSettings
from trainer.gate.verdict import Check


def enough_rows(evidence: Evidence, settings: GateSettings) -> Check:
    """The check ``rows``: test and audit rows, in all and of each label; it says how many more are needed."""
    rows = len(evidence.truth)
    counts = np.bincount(evidence.truth, minlength=len(evidence.labels))
    missing = {
        label: settings.min_class_rows - int(count)
        for label, count in zip(evidence.labels, counts, strict=True)
        if count < settings.min_class_rows
    }
    lacking = max(settings.min_rows - rows, sum(missing.values()))
    if lacking <= 0:
        return Check(
            "rows", passed=True, value=rows, limit=settings.min_rows, detail=f"{rows} labelled rows."
        )
    classes = ", ".join(f"{count} of {label}" for label, count in missing.items())
    detail = (
        f"{lacking} more labels needed{f' ({classes})' if classes else ''}: {rows} test and audit reviews "
        f"are labelled; the gate judges from {settings.min_rows} on, {settings.min_class_rows} of each label."
    )
    return Check("rows", passed=False, value=rows, limit=settings.min_rows, detail=detail)
