"""What decisions about adapters send: promotion, rollback, shadow trials."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from benchmarks.every_statement.call import DAY, TASK, Call
from reviews.adapter import AdapterVersion
from storage.adapters.comparison import side_by_side
from storage.adapters.promotion import propose_promotion
from storage.adapters.registry import AdapterStore
from storage.adapters.rejected import prune_rejected, why_rejected
from storage.adapters.shadows import ShadowStore
from storage.database import Database


def deciding(database: Database) -> Iterator[Call]:
    """What operators decide, and what they look at for it."""
    adapters, shadows = AdapterStore(database), ShadowStore(database)
    newest = adapters.newest(TASK, 2)
    first, second = newest[0], newest[1]
    made = f"{uuid4().hex}{uuid4().hex}"
    walked = AdapterVersion(
        f"{TASK}-{made[:12]}", TASK, ("negative", "neutral", "positive"), "none", None, made
    )
    yield Call("adapters add", lambda: adapters.add(walked, {"adapter_config.json": b"{}"}))
    yield Call("adapters add, once more", lambda: adapters.add(walked, {"adapter_config.json": b"{}"}))
    refused = replace(walked, version=f"{TASK}-{made[12:24]}", content_hash=made[::-1], state="rejected")
    adapters.add(refused, {"adapter_config.json": b"{}"})
    yield Call("a rejected adapter", lambda: adapters.reject(refused.version))
    yield Call("why it was rejected", lambda: why_rejected(database, refused.version))
    yield Call("prune rejected adapters", lambda: _prune(database, shadows, refused))
    yield Call("promotion of a rejected adapter", lambda: _overrule(adapters, refused))
    yield Call(
        "adapters list", lambda: (adapters.list_versions(TASK), adapters.newest(TASK), adapters.history(TASK))
    )
    yield Call(
        "adapter",
        lambda: (
            adapters.registered([first.version]),
            adapters.size(first.version),
            adapters.manifest(first.version),
            adapters.files(second.version),
        ),
    )
    yield Call("promotion: what it means", lambda: propose_promotion(database, walked.version), 10)
    active = adapters.active(TASK)
    again = adapters.find(active.version if active else first.version)
    yield Call(
        "promotion", lambda: adapters.activate(again, expected=active, decided_by="walker", reason="to see")
    )
    yield Call("two adapters", lambda: side_by_side(database, TASK, first.version, second.version), 2)
    yield Call("shadow: end", lambda: [shadows.stop(one) for one in shadows.latest(TASK, 1)])
    trial = shadows.start(second, 0.1, "walker", "to see")
    yield Call("shadow: another", lambda: shadows.start(second, 0.2, "walker", "to see", instead_of=trial))
    yield Call(
        "shadow: trials",
        lambda: (shadows.running(TASK), shadows.latest(TASK), shadows.of_adapter(second.version)),
    )
    old = trial.__class__(
        **{**_fields(trial), "version": first.version, "started_at": datetime.now(UTC) - 900 * DAY}
    )
    yield Call("shadow: agreement", lambda: shadows.agreement(old), 5)
    yield Call("shadow: disagreements", lambda: shadows.disputed(old, 20), 5)
    yield Call("shadow: stop", lambda: [shadows.stop(one) for one in shadows.latest(TASK, 1)])


def _prune(database: Database, shadows: ShadowStore, refused: AdapterVersion) -> None:
    """One that was on trial, which keeps its record, and one that was not."""
    running = shadows.running(TASK)
    trial = shadows.start(refused, 0.1, "walker", "to see", instead_of=running)
    shadows.stop(trial, "walker", "seen")
    other = replace(refused, version=f"{refused.version}x", content_hash=f"{refused.content_hash[:-1]}x")
    AdapterStore(database).add(other, {"adapter_config.json": b"{}"})
    prune_rejected(database, 0)


def _overrule(adapters: AdapterStore, refused: AdapterVersion) -> None:
    """Let an adapter that was rejected take over, and go back."""
    before = adapters.active(TASK)
    if before is None:
        raise RuntimeError("No adapter is active.")
    chosen = replace(refused, version=f"{refused.version}y", content_hash=f"{refused.content_hash[:-1]}y")
    adapters.add(chosen, {"adapter_config.json": b"{}"})
    took = adapters.activate(chosen, expected=before, decided_by="walker", reason="to see")
    back = adapters.find(before.version)
    adapters.activate(back, expected=took, decided_by="walker", reason="seen", restores=before)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
