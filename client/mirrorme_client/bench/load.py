"""Sessions at once against one endpoint, and the search for how many it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from mirrorme_client.bench.caller import Caller, CallPlan
from mirrorme_client.bench.figures import Figures, Objective
from mirrorme_client.bench.talk import TalkStyle, talk
from mirrorme_client.client import AnimationClient

_STAGGER_S = 0.1


@dataclass(frozen=True)
class Run:
    """A load test of one number of sessions."""

    figures: Figures
    broken: tuple[str, ...]
    """What of the objective did not hold."""

    @property
    def holds(self) -> bool:
        """Whether the objective held."""
        return not self.broken


async def run_load(
    client: AnimationClient, plan: CallPlan, style: TalkStyle, num_sessions: int
) -> Figures:
    """Runs so many sessions side by side, started one shortly after the other, each with a talk
    and a seed of its own."""

    async def call(number: int) -> Caller:
        await asyncio.sleep(number * _STAGGER_S)
        seed = plan.seed + number
        spurts = tuple(talk(style, plan.seconds, seed))
        caller = Caller(client, replace(plan, talk=spurts, seed=seed))
        await caller.run()
        return caller

    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(call(number)) for number in range(num_sessions)]
    return Figures.of([call.result().record for call in calls])


async def find_largest(
    measure: Callable[[int], Awaitable[Figures]], objective: Objective, max_sessions: int
) -> list[Run]:
    """Load tests in search of the largest number of sessions with which the objective holds:
    doubled until it breaks, then halved in between. `largest` says what was found."""
    runs: list[Run] = []

    async def holds(num_sessions: int) -> bool:
        figures = await measure(num_sessions)
        runs.append(Run(figures, tuple(objective.broken_by(figures))))
        return runs[-1].holds

    good, next_try = 0, 1
    while await holds(next_try):
        good = next_try
        if good == max_sessions:
            return runs
        next_try = min(2 * good, max_sessions)
    bad = next_try
    while bad - good > 1:
        middle = (good + bad) // 2
        if await holds(middle):
            good = middle
        else:
            bad = middle
    return runs


def largest(runs: list[Run]) -> int:
    """The most sessions with which the objective held; 0 where it never did."""
    return max((run.figures.num_sessions for run in runs if run.holds), default=0)
