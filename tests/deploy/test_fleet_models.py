"""The autoscaler and the fleet that the benchmarks play: known answers, by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from autoscaler import Autoscaler, Direction, Policy, Target
from fleet_model import Fleet, Outage, Service
from session_load import Sessions, draw_sessions

from tests.deploy.chart import EVERYTHING, named, render

pytestmark = pytest.mark.deploy

UP = Direction(0, (Policy("Pods", 4, 60), Policy("Percent", 100, 60)))
DOWN = Direction(300, (Policy("Pods", 1, 120),))


def autoscaler(*targets: Target) -> Autoscaler:
    return Autoscaler(1, 50, targets or (Target("AverageValue", 0.5),), UP, DOWN)


def test_an_autoscaler_is_that_of_the_chart() -> None:
    manifest = named(render(EVERYTHING), "HorizontalPodAutoscaler", "mirrorme-triton-l4")
    made = Autoscaler.of_manifest(manifest)
    assert (made.min_replicas, made.max_replicas) == (1, 8)
    assert made.targets == (Target("AverageValue", 0.75), Target("Value", 1.0))
    assert made.down == Direction(3600, (Policy("Pods", 1, 300),))


def test_wishes_and_tolerance() -> None:
    assert autoscaler().decide(0, 2, [1.5]) == 3
    assert autoscaler().decide(0, 3, [1.6]) == 3  # within a tenth
    assert autoscaler().decide(0, 3, [None]) == 3  # a metric without a value wishes nothing
    ratio = autoscaler(Target("AverageValue", 0.5), Target("Value", 1.0))
    assert ratio.decide(0, 4, [2.0, 1.5]) == 6  # the larger wish


def test_scaling_up_is_bounded_by_its_policies() -> None:
    scaler = autoscaler()
    assert scaler.decide(0, 2, [20.0]) == 6
    assert scaler.decide(15, 6, [20.0]) == 6
    assert scaler.decide(75, 6, [20.0]) == 12


def test_scaling_down_waits_and_goes_slowly() -> None:
    scaler = autoscaler()
    assert scaler.decide(0, 10, [5.0]) == 10
    assert scaler.decide(100, 10, [1.0]) == 10
    assert scaler.decide(301, 10, [1.0]) == 9
    assert scaler.decide(330, 9, [1.0]) == 9
    assert scaler.decide(430, 9, [1.0]) == 8


def streams(count: int, seconds: float) -> Sessions:
    """So many that are there from the start."""
    return Sessions(np.zeros(count), np.full(count, seconds))


def played(servers: int, count: int, service: Service, outages: list[Outage] | None = None):
    fleet = Fleet(servers, 10_000, service, seed=1)
    return fleet.run(streams(count, 100.0), outages or [], 60.0, 10.0)


def test_a_fleet_with_room_is_never_late_and_one_without_always() -> None:
    service = Service(fixed_ms=10, row_ms=10, max_batch=8)
    assert service.streams == pytest.approx(8 / 3 / 0.09)
    roomy = played(10, 200, service)
    assert (roomy.late, roomy.refused) == (0, 0)
    assert roomy.chunks == pytest.approx(200 * 3 * 50, rel=0.01)
    full = played(10, 400, service)
    assert full.late_share > 0.95
    assert full.mean_rows_a_batch == pytest.approx(8, abs=0.2)
    assert full.busy_share == pytest.approx(1, abs=0.02)


def test_an_idle_fleet_is_as_busy_as_its_work() -> None:
    tally = played(4, 8, Service(fixed_ms=0, row_ms=50, max_batch=8))
    # 8 streams of three chunks a second, 50 ms each, on 4 servers.
    assert tally.busy_share == pytest.approx(8 * 3 * 0.05 / 4, rel=0.03)


def test_places_refuse_and_outages_delay() -> None:
    service = Service(fixed_ms=10, row_ms=10, max_batch=8)
    fleet = Fleet(10, 100, service, seed=1)
    assert fleet.run(streams(150, 100.0), [], 20.0, 0.0).refused == 50
    outages = [Outage(server, 20.0, 40.0) for server in range(5)]
    hurt = played(10, 260, service, outages)
    # What came late in the outage is still to be worked off when it is over.
    assert 0.5 < hurt.late_share < 0.85
    assert played(10, 260, service).late == 0


def test_sessions_are_as_many_as_were_wanted() -> None:
    drawn = draw_sessions(3, 4000.0, lambda t: np.full_like(t, 200.0), 100.0)
    active = drawn.active(np.arange(2000.0, 4000.0, 10.0))
    assert active.mean() == pytest.approx(200, rel=0.1)
