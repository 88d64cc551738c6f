"""Each metric that a rule, the dashboard or an autoscaler reads is exported, with its labels."""

from __future__ import annotations

import asyncio
import re
import urllib.request

import pytest
from mirrorme_service.metrics import Metrics
from prometheus_client.metrics import MetricWrapperBase

from tests.deploy.queries import expressions, recorded, series
from tests.service.gateway import running_gateway

pytestmark = pytest.mark.deploy

QUERIES = list(expressions())
# Of these servers; tests/triton compares the names with a real server's.
TRITON = {
    "nv_inference_queue_duration_us": {"model", "version"},
    "nv_inference_compute_infer_duration_us": {"model", "version"},
    "nv_inference_request_failure": {"model", "version", "reason"},
    "nv_inference_count": {"model", "version"},
    "nv_inference_exec_count": {"model", "version"},
}


# Of every gateway's process.
PROCESS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}


def gateway_labels() -> dict[str, set[str]]:
    """By the names of series."""
    labels: dict[str, set[str]] = {"up": set()}
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
            for suffix in suffixes.get(metric._type, ("",)):
                labels[metric._name + suffix] = set(metric._labelnames)
    return labels | {name: set() for name in PROCESS}


async def test_the_gateways_metrics_are_in_a_scrape_of_a_gateway() -> None:
    asked = {name for _, query in QUERIES for name, _ in series(query)}
    asked = {name for name in asked if name.startswith(("mirrorme_", "process_"))}
    async with running_gateway() as gateway:
        url = f"http://127.0.0.1:{gateway.server.metrics_port}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    # A metric with labels has its type there before its first series.
    exported = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    missing = {
        name
        for name in asked
        if name not in exported and re.sub(r"_(bucket|sum|count)$", "", name) not in exported
    }
    assert len(asked) > 25 and asked > PROCESS and not missing


@pytest.mark.parametrize(
    ("asker", "query"), QUERIES, ids=[f"{a}-{i}" for i, (a, _) in enumerate(QUERIES)]
)
def test_metrics_and_labels_are_known(asker: str, query: str) -> None:
    known = gateway_labels() | TRITON | {name: {"engine"} for name in recorded()}
    found = series(query)
    assert found, query
    for name, labels in found:
        assert name in known, f"{asker} reads {name}, which nobody exports"
        # An expression may read several metrics, each with labels of its own.
        others = set().union(*(known.get(other, set()) for other, _ in found))
        assert labels <= others, f"{asker}: {name} has no label {labels - others}"


def test_the_reader_of_queries_reads() -> None:
    query = 'sum by (le, a) (rate(x_bucket{job="j",b!="1"}[5m])) / (y:z{c=~"."} > 1)'
    query += ' or absent(up{d="e"})'
    assert series(query) == [
        ("x_bucket", {"a", "b"}),
        ("y:z", {"a", "c"}),
        ("up", {"a", "d"}),
    ]
