"""Kubernetes' HorizontalPodAutoscaler, as its controller decides: pure, with a clock that is given.

Follows the documented algorithm of autoscaling/v2 with external metrics: the largest wish of all
metrics, a tolerance of 10 %, the scale-up and scale-down policies, and both stabilisation windows.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 0.1
SYNC_PERIOD_S = 15.0


@dataclass(frozen=True)
class Policy:
    """So many pods, or so many percent, in a period."""

    kind: str
    value: float
    period_s: float


@dataclass(frozen=True)
class Direction:
    """One of `behavior`'s two."""

    window_s: float
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Target:
    """One metric's. `AverageValue`: the metric is a sum over all pods; `Value`: it is not."""

    kind: str
    value: float


@dataclass
class Autoscaler:
    """One autoscaler's state. Call `decide` every `SYNC_PERIOD_S`."""

    min_replicas: int
    max_replicas: int
    targets: tuple[Target, ...]
    up: Direction
    down: Direction
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def of_manifest(cls, manifest: dict[str, Any]) -> Autoscaler:
        """The autoscaler that a rendered HorizontalPodAutoscaler describes."""
        spec = manifest["spec"]
        targets = []
        for metric in spec["metrics"]:
            target = metric["external"]["target"]
            text = target[target["type"][0].lower() + target["type"][1:]]
            targets.append(Target(target["type"], int(text.removesuffix("m")) / 1000))
        return cls(
            min_replicas=spec["minReplicas"],
            max_replicas=spec["maxReplicas"],
            targets=tuple(targets),
            up=_direction(spec["behavior"]["scaleUp"]),
            down=_direction(spec["behavior"]["scaleDown"]),
        )

    def decide(self, now_s: float, replicas: int, metrics: list[float | None]) -> int:
        """The number of replicas from now on. A metric without a value has no wish."""
        wishes = [
            _wish(replicas, value, target)
            for value, target in zip(metrics, self.targets, strict=True)
            if value is not None
        ]
        if not wishes:
            return replicas
        wish = self._stabilised(now_s, replicas, max(wishes))
        bounded = self._bounded(now_s, replicas, wish)
        chosen = min(max(bounded, self.min_replicas), self.max_replicas)
        if chosen != replicas:
            self._changes.append((now_s, chosen - replicas))
        return chosen

    def _stabilised(self, now_s: float, replicas: int, wish: int) -> int:
        """Up to the lowest wish of its window, down to the highest of its own."""
        self._wishes.append((now_s, wish))
        longest_s = max(self.up.window_s, self.down.window_s)
        while self._wishes[0][0] < now_s - longest_s:
            self._wishes.popleft()
        lowest = min(w for at_s, w in self._wishes if at_s >= now_s - self.up.window_s)
        highest = max(w for at_s, w in self._wishes if at_s >= now_s - self.down.window_s)
        return min(max(replicas, lowest), highest)

    def _bounded(self, now_s: float, replicas: int, wish: int) -> int:
        if wish > replicas:
            return min(wish, max(self._limit(now_s, replicas, p, 1) for p in self.up.policies))
        if wish < replicas:
            return max(wish, min(self._limit(now_s, replicas, p, -1) for p in self.down.policies))
        return replicas

    def _limit(self, now_s: float, replicas: int, policy: Policy, sign: int) -> int:
        changed = sum(
            change
            for at_s, change in self._changes
            if at_s > now_s - policy.period_s and change * sign > 0
        )
        start = replicas - changed
        if policy.kind == "Pods":
            return int(start + sign * policy.value)
        return math.ceil(start * (1 + sign * policy.value / 100))


def _wish(replicas: int, value: float, target: Target) -> int:
    if target.kind == "AverageValue":
        ratio = value / (target.value * replicas) if replicas else math.inf
        wish = math.ceil(value / target.value)
    else:
        ratio = value / target.value
        wish = math.ceil(replicas * ratio)
    return replicas if abs(ratio - 1) <= TOLERANCE else wish


def _direction(behavior: dict[str, Any]) -> Direction:
    policies = tuple(
        Policy(policy["type"], policy["value"], policy["periodSeconds"])
        for policy in behavior["policies"]
    )
    return Direction(behavior["stabilizationWindowSeconds"], policies)
