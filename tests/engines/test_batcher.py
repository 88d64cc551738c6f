"""The queue's policy, and what of the batcher the contract suite does not reach."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrorme_engines.batched_engine import BatchedEngine
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.call_queue import CallQueue
from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault, EngineUnavailable
from mirrorme_engines.manifest import EngineSpec, TensorSpec

SPEC = EngineSpec(
    name="echo",
    role="decoder",
    file="none",
    sha256="0" * 64,
    max_batch_size=8,
    inputs=(TensorSpec("x", "float32", ()),),
    outputs=(TensorSpec("y", "float32", ()),),
)


@dataclass(eq=False)
class Waiting:
    num_rows: int
    alone: bool = False


@given(
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=40),
    st.integers(8, 16),
    st.integers(1, 30),
)
def test_pulls_all_in_order_in_the_largest_batches(
    calls: list[tuple[int, bool]], max_rows: int, max_calls: int
) -> None:
    queue: CallQueue[Waiting] = CallQueue(max_calls=max_calls, max_batch_rows=max_rows)
    waiting = [Waiting(*call) for call in calls]
    taken = [call for call in waiting if queue.push(call)]
    assert taken == waiting[:max_calls]
    batches = list(iter(queue.pull, []))
    assert [call for batch in batches for call in batch] == taken
    for batch, following in zip(batches, [*batches[1:], None], strict=False):
        num_rows = sum(call.num_rows for call in batch)
        assert num_rows <= max_rows
        assert len(batch) == 1 or not any(call.alone for call in batch)
        if following and not batch[0].alone and not following[0].alone:
            assert num_rows + following[0].num_rows > max_rows
    assert len(queue) == 0 and queue.oldest is None


def test_given_back_calls_come_first_and_need_no_free_place() -> None:
    queue: CallQueue[Waiting] = CallQueue(max_calls=2, max_batch_rows=8)
    first, second, third = Waiting(1, alone=True), Waiting(2, alone=True), Waiting(3)
    assert queue.push(third) and queue.push(Waiting(4))
    queue.give_back([first, second])
    assert not queue.push(Waiting(1))
    assert [queue.pull(), queue.pull()] == [[first], [second]]
    queue.discard(third)
    queue.discard(third)
    assert [call.num_rows for call in queue.clear()] == [4]


@dataclass
class Echo:
    """Doubles; runs `then` on the engine's thread first."""

    runs: list[int] = field(default_factory=list)
    error: Exception | None = None
    deaf: threading.Event | None = None

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        self.runs.append(len(inputs["x"]))
        if self.deaf:
            self.deaf.wait()
        if self.error:
            raise self.error
        return {"y": inputs["x"] * np.float32(2)}

    def abort(self) -> None:
        pass

    def pool_cpu_s(self) -> float:
        return 0.0


def call(value: float) -> Tensors:
    return {"x": np.array([value], np.float32)}


async def test_a_delay_lets_later_calls_join() -> None:
    echo = Echo()
    engine = BatchedEngine(SPEC, echo, BatchOptions(max_delay_s=1))
    first = asyncio.create_task(engine.infer(call(1)))
    await asyncio.sleep(0.01)
    assert echo.runs == []
    second = asyncio.create_task(engine.infer(call(2)))
    await asyncio.gather(first, second)
    assert echo.runs == [2]
    await engine.close()


async def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    echo = Echo()
    engine = BatchedEngine(SPEC, echo, BatchOptions(max_delay_s=60, default_timeout_s=5))
    early = asyncio.create_task(engine.infer(call(0)))
    await asyncio.sleep(0)
    await asyncio.gather(early, *(engine.infer(call(i)) for i in range(7)))
    assert echo.runs == [8]
    await engine.close()


async def test_calls_of_one_session_after_another_keep_joining() -> None:
    """Sessions that call again as soon as they are answered go on sharing runs."""
    echo = Echo()
    engine = BatchedEngine(SPEC, echo)

    async def session(value: float) -> list[float]:
        return [float((await engine.infer(call(value + i)))["y"][0]) for i in range(20)]

    results = await asyncio.gather(*(session(100.0 * s) for s in range(8)))
    assert results == [[2 * (100.0 * s + i) for i in range(20)] for s in range(8)]
    assert echo.runs == [8] * 20
    await engine.close()


async def test_an_unexpected_error_is_a_fault_with_its_cause() -> None:
    echo = Echo(error=ZeroDivisionError("by zero"))
    engine = BatchedEngine(SPEC, echo)
    results = await asyncio.gather(
        *(engine.infer(call(i)) for i in range(2)), return_exceptions=True
    )
    for result in results:
        assert isinstance(result, EngineFault)
        assert "echo failed: ZeroDivisionError: by zero" in str(result)
        assert result.__cause__ is echo.error
    assert echo.runs == [2, 1, 1]
    await engine.close()


async def test_close_leaves_a_deaf_run_behind(caplog: pytest.LogCaptureFixture) -> None:
    deaf = threading.Event()
    engine = BatchedEngine(SPEC, Echo(deaf=deaf), BatchOptions(close_grace_s=0.05))
    stuck = asyncio.create_task(engine.infer(call(1)))
    await asyncio.sleep(0.01)
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await stuck
    assert "does not end" in caplog.text
    deaf.set()


async def test_close_before_a_delayed_run() -> None:
    echo = Echo()
    engine = BatchedEngine(SPEC, echo, BatchOptions(max_delay_s=60))
    waiting = asyncio.create_task(engine.infer(call(1)))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await waiting
    assert echo.runs == []


def test_belongs_to_one_loop() -> None:
    engine = BatchedEngine(SPEC, Echo())
    asyncio.run(engine.infer(call(1)))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(engine.infer(call(1)))  # type: ignore[arg-type]
    asyncio.run(engine.close())
