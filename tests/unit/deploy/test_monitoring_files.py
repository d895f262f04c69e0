"""Alerts and dashboard use names that a worker exports, and nothing else."""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from broker.subscription import TopicPartition
from consumer.measures import Measures
from consumer.sinks import SinkMeasures
from reviewloop.operations.metrics import Health, WorkerCollector
from reviewloop.operations.sink_metrics import SinkCollector
from reviews.dead_letter import DeadLetter
from storage.stream.sinks import SinkLag

DEPLOY = Path(__file__).parents[3] / "deploy"
GIVEN_BY_PROMETHEUS = {"job", "instance"}
KEYWORDS = {
    "and",
    "unless",
    "or",
    "on",
    "by",
    "sum",
    "rate",
    "count",
    "increase",
    "max",
    "deriv",
    "absent",
    "histogram_quantile",
}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of every sample of a worker to which everything has happened once."""
    measures = Measures()
    measures.adapters = {"sentiment": "sentiment-0123456789ab"}
    measures.lag_records = {TopicPartition("reviews", 0): 1}
    measures.stored(1, [DeadLetter(0, "parse", "not_json", "", None, None, None)])
    measures.labels = Measures()
    measures.labels.lag_records = {TopicPartition("labels", 0): 1}
    measures.labels.stored(1, [DeadLetter(0, "label", "not_json", "", None, None, None)])
    measures.turned_at = 0.0
    measures.queues["score"] = Queue()
    measures.kept(["audit"])
    measures.shadows = {"sentiment": "sentiment-0123456789ab"}
    measures.shadow_scored("sentiment", 1, 1, has_failed=True)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(WorkerCollector(measures, Health(measures, (), 60)))
    sinks = CollectorRegistry()
    sinks.register(SinkCollector([_sink()]))
    found: dict[str, set[str]] = defaultdict(set)
    for family in [*registry.collect(), *sinks.collect()]:
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    found["probe_success"] = set()  # of the blackbox exporter, which probes the console
    return found


def _sink() -> SinkMeasures:
    lag = SinkLag("scored-reviews", datetime.now(UTC), True, 1, 1.0, 1, None)
    return SinkMeasures("scored-reviews", {"scored": 1}, lag)


def _alerts() -> dict[str, dict[str, object]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _panels() -> dict[str, list[str]]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in dashboard["panels"]}


EXPRESSIONS = [(name, str(rule["expr"])) for name, rule in _alerts().items()] + [
    (title, expression) for title, expressions in _panels().items() for expression in expressions
]


def _names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:reviewloop_|process_|probe_)\w+", re.sub(r"\{[^}]*\}", "", expression)))


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_every_metric_of_an_alert_or_a_panel_is_exported(
    name: str, expression: str, exported: dict[str, set[str]]
):
    assert _names(expression), "an expression without a metric"
    assert _names(expression) <= exported.keys()


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_every_label_that_is_grouped_by_belongs_to_the_metrics(
    name: str, expression: str, exported: dict[str, set[str]]
):
    labels = {label for metric in _names(expression) for label in exported[metric]} | GIVEN_BY_PROMETHEUS
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    assert {label.strip() for group in grouped for label in group.split(",")} <= labels


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_every_expression_is_built_of_known_functions_and_closed_brackets(name: str, expression: str):
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]|\b(?:by|on) \([^)]*\)", " ", expression)
    words = set(re.findall(r"[a-z_]{2,}", bare)) - _names(expression)
    assert words <= KEYWORDS


def test_an_alert_says_what_is_wrong_what_to_do_and_how_urgent_it_is():
    for name, rule in _alerts().items():
        assert set(rule["annotations"]) == {"summary", "remedy"}, name
        assert rule["labels"]["severity"] in {"warning", "critical"}, name


def test_a_summary_uses_only_labels_that_the_alert_keeps():
    for name, rule in _alerts().items():
        kept = set(
            re.findall(r"by \(([^)]*)\)", rule["expr"])[-1:] or [",".join(GIVEN_BY_PROMETHEUS | {"service"})]
        )
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= {label.strip() for labels in kept for label in labels.split(",")}, name


def test_the_dashboards_panels_do_not_overlap_and_have_ids_of_their_own():
    panels = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
