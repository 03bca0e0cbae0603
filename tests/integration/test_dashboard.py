"""The Grafana dashboard asks for figures that a running server gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.client import pictures, submit, wait_for

DASHBOARD = Path(__file__).resolve().parents[2] / "docker" / "grafana" / "coopserve.json"


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel.get("targets", ())]


def parts(node: Any) -> Iterator[Any]:
    """An expression and everything in it."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if hasattr(node, name):
            yield from parts(getattr(node, name))
    for argument in getattr(node, "args", ()):
        yield from parts(argument)


def labels_of(query: str) -> dict[str, set[str]]:
    """The metrics that a query names, each with the labels that it is chosen or grouped by."""
    nodes = list(parts(promql.parse(query)))
    grouped = {
        label
        for node in nodes
        if isinstance(node, promql.AggregateExpr) and node.modifier
        for label in node.modifier.labels
    }
    return {
        node.name: grouped | {matcher.name for matcher in node.matchers.matchers}
        for node in nodes
        if isinstance(node, promql.VectorSelector)
    }


@pytest.fixture(scope="module")
def figures(api: httpx.Client) -> dict[str, set[str]]:
    """The labels of every figure of a server that has done a job."""
    pictures(api, submit(api, label=0, steps=1))

    def told() -> bool:
        return "coopserve_worker_engine_steps_total{" in api.get("/metrics").text

    wait_for(told)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        if family.type == "gauge":
            found.setdefault(family.name, set())  # declared, perhaps without a value now
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_there_is(query: str, figures: dict[str, set[str]]) -> None:
    asked = labels_of(query)
    assert asked
    for name, labels in asked.items():
        assert name in figures
        assert labels <= figures[name], name


def test_queries_are_read_completely() -> None:
    assert labels_of('sum by (le) (rate(a_bucket{x="1"}[5m])) / histogram_quantile(0.9, b{y=~"z"})') == {
        "a_bucket": {"le", "x"},
        "b": {"le", "y"},
    }
