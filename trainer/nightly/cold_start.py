"""Whether there are enough labels to train and to judge; if not, what is missing, in numbers. Pure."""

from collections.abc import Mapping

from trainer.gate.settings import GateSettings
from trainer.nightly.settings import NightlySettings
from trainer.nightly.snapshot import HELD_OUT, Snapshot


def missing(snapshot: Snapshot, settings: NightlySettings, gate: GateSettings) -> list[str]:
    """Sentences about what has to be labelled first; none where there is enough.

    Args:
        snapshot: What is labelled.
        settings: How little is enough to train.
        gate: How little is enough to judge.
    """
    if len(snapshot.names) < 2:
        named = " and ".join(f"'{name}'" for name in snapshot.names)
        return [f"The labels name {f'only {named}' if named else 'nothing'} so far: 2 classes are needed."]
    wanted = (
        ("to train on", snapshot.classes("train"), settings.min_train_rows, settings.min_class_rows),
        ("to choose by", snapshot.classes("validation"), settings.min_validation_rows, 0),
        ("to judge by (test and audit)", snapshot.classes(*HELD_OUT), gate.min_rows, gate.min_class_rows),
    )
    lacking = [said for one in wanted if (said := _lacking(*one))]
    others = snapshot.left_out.get("other_label", 0)
    if lacking and others:
        lacking.append(
            f"{others:,} labelled reviews are left out: their labels are none of those that the adapter that "
            f"serves answers with ({', '.join(snapshot.names)})."
        )
    return lacking


def _lacking(purpose: str, counts: Mapping[str, int], rows: int, each: int) -> str:
    """A sentence about one purpose; empty where nothing is missing."""
    have = sum(counts.values())
    few = {name: each - count for name, count in counts.items() if count < each}
    more = max(rows - have, sum(few.values()))
    if more <= 0:
        return ""
    classes = ", ".join(f"{count} of '{name}'" for name, count in few.items())
    return (
        f"{more} more labelled reviews are needed {purpose}{f', among them {classes}' if classes else ''}: "
        f"there are {have} of {rows}."
    )
