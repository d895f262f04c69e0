"""What the registry keeps of an adapter's manifest."""

from typing import TYPE_CHECKING

from reviews.adapter import AdapterVersion

if TYPE_CHECKING:
    from classifier.adapter import AdapterManifest


def describe_adapter(manifest: "AdapterManifest") -> AdapterVersion:
    """What the registry keeps of an adapter directory's manifest."""
    return AdapterVersion(
        version=manifest.version,
        task=manifest.task,
        labels=manifest.labels,
        base_model=manifest.base_model or "",
        base_revision=manifest.base_revision,
        content_hash=manifest.content_hash,
        temperature=manifest.temperature,
        metrics=manifest.metrics,
        parent=manifest.parent,
    )
