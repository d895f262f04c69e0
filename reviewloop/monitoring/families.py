"""Metric families from plain numbers, under this program's prefix."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from consumer.measures import Histogram

PREFIX = "reviewloop_"

Values = Mapping[Any, float]
"""Numbers by the values of the labels, which are tuples of texts."""


def gauge(
    name: str, help_text: str, values: Values | float, labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    """Numbers that go up and down; a single number has no labels."""
    family = GaugeMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, value in _items(values):
        family.add_metric(label_values, value)
    return family


def counter(
    name: str, help_text: str, values: Values | float, labels: tuple[str, ...] = ()
) -> CounterMetricFamily:
    """Numbers that only grow; their samples end in ``_total``."""
    family = CounterMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, value in _items(values):
        family.add_metric(label_values, value)
    return family


def histogram(
    name: str,
    help_text: str,
    values: Mapping[Any, Histogram] | Histogram,
    labels: tuple[str, ...] = (),
) -> HistogramMetricFamily:
    """Distributions; their samples end in ``_bucket``, ``_count`` and ``_sum``."""
    family = HistogramMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, item in values.items() if isinstance(values, Mapping) else [((), values)]:
        bounds = [*map(floatToGoString, item.bounds), "+Inf"]
        counts = accumulate(item.counts)
        family.add_metric(label_values, list(zip(bounds, counts, strict=True)), item.sum)
    return family


def _items(values: Values | float) -> Iterable[tuple[tuple[str, ...], float]]:
    # A copy made in one step: the worker may add a key meanwhile.
    return list(values.items()) if isinstance(values, Mapping) else [((), float(values))]
