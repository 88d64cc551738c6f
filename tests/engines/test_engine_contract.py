"""What every Engine implementation must do. Each test runs once for each implementation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.engine import Engine
from mirrorme_engines.errors import (
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    InvalidTensor,
)
from mirrorme_engines.observer import BatchRecord, CallRecord, SilentObserver

from tests.engines.engine_cases import EngineCase, FakeCase, FakeTensorRTCase, OnnxRuntimeCase

Open = Callable[..., EngineCase]


class Recorder(SilentObserver):
    def __init__(self) -> None:
        self.calls: list[CallRecord] = []
        self.batches: list[BatchRecord] = []

    def call_ended(self, record: CallRecord) -> None:
        self.calls.append(record)

    def batch_ended(self, record: BatchRecord) -> None:
        self.batches.append(record)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["fake", "onnxruntime", "tensorrt"])
async def open_case(
    request: pytest.FixtureRequest, tmp_path: Path, recorder: Recorder
) -> AsyncIterator[Open]:
    opened: list[EngineCase] = []

    def open_one(**options: float) -> EngineCase:
        batch = BatchOptions(**options)  # pyright: ignore[reportArgumentType]
        match request.param:
            case "fake":
                case = FakeCase(batch, recorder)
            case "onnxruntime":
                case = OnnxRuntimeCase(batch, recorder, tmp_path)
            case _:
                case = FakeTensorRTCase(batch, recorder, tmp_path)
        opened.append(case)
        return case

    yield open_one
    for case in opened:
        case.release()
        await case.engine.close()


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


async def turns(num_turns: int = 3) -> None:
    """Lets the other tasks of the loop run as far as they come."""
    for _ in range(num_turns):
        await asyncio.sleep(0)


async def begun(case: EngineCase, num_runs: int = 1) -> None:
    """Waits until the engine's thread has begun its `num_runs`th run."""
    async with asyncio.timeout(5):
        while len(case.batch_sizes) < num_runs:  # noqa: ASYNC110 # a thread appends
            await asyncio.sleep(0.001)


async def occupy(case: EngineCase) -> asyncio.Task:
    """Makes the engine busy until `release`."""
    num_runs = len(case.batch_sizes) + 1
    case.hold()
    task = asyncio.create_task(case.engine.infer(case.good(99)))
    await begun(case, num_runs)
    return task


async def test_outputs_are_as_the_spec_says(open_case: Open) -> None:
    case = open_case()
    for num_rows in (1, 2, 3, 8):
        result = await case.engine.infer(case.good(1, num_rows))
        assert {name: (a.dtype.name, a.shape) for name, a in result.items()} == {
            t.name: (t.dtype, (num_rows, *t.dims)) for t in case.engine.spec.outputs
        }


async def test_different_inputs_give_different_results(open_case: Open) -> None:
    case = open_case()
    assert not same(await case.engine.infer(case.good(1)), await case.engine.infer(case.good(2)))


async def test_inputs_are_not_changed(open_case: Open) -> None:
    case = open_case()
    inputs = case.good(1)
    before = {name: array.copy() for name, array in inputs.items()}
    await case.engine.infer(inputs)
    assert same(inputs, before)


async def test_noncontiguous_inputs(open_case: Open) -> None:
    case = open_case()
    inputs = case.good(1, 2)
    strided = {name: np.asfortranarray(array) for name, array in inputs.items()}
    assert same(await case.engine.infer(strided), await case.engine.infer(inputs))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n, a: {}, "lacks inputs: {name}"),
        (lambda n, a: {n: a, "extra": a}, "unknown inputs: extra"),
        (lambda n, a: {n: a.astype(np.float64)}, "input {name} is float64"),
        (lambda n, a: {n: a.astype(a.dtype.newbyteorder())}, "input {name} is >f4"),
        (lambda n, a: {n: a[:, :-1]}, "input {name} is float32 [2, "),
        (lambda n, a: {n: a[..., None]}, "input {name} is float32 [2, "),
        (lambda n, a: {n: a.tolist()}, "input {name} is a list"),
        (lambda n, a: {n: a[:1]}, "inputs differ in batch size: {name} 1"),
        (lambda n, a: {n: np.float32(1)}, "input {name} is a float32: want a numpy array"),
        (lambda n, a: {n: np.array(1, np.float32)}, "input {name} is float32 []: want"),
    ],
)
async def test_bad_inputs_are_refused_by_name(open_case: Open, change, said: str) -> None:
    case = open_case()
    inputs = case.good(1, 2)
    name = case.engine.spec.inputs[0].name
    array = inputs.pop(name)
    with pytest.raises(InvalidTensor) as caught:
        await case.engine.infer({**inputs, **change(name, array)})
    assert said.format(name=name) in str(caught.value)
    assert not caught.value.retryable
    assert case.batch_sizes == []


@pytest.mark.parametrize("num_rows", [0, 9])
async def test_batch_size_out_of_range_is_refused(open_case: Open, num_rows: int) -> None:
    case = open_case()
    with pytest.raises(InvalidTensor, match=f"batch size {num_rows}: want 1 to 8"):
        await case.engine.infer(case.good(1, num_rows))


async def test_joined_calls_get_what_they_get_alone(open_case: Open) -> None:
    case = open_case()
    sizes = (1, 3, 1, 2, 1)
    inputs = [case.good(seed, size) for seed, size in enumerate(sizes)]
    alone = [await case.engine.infer(call) for call in inputs]
    del case.batch_sizes[:]
    joined = await asyncio.gather(*(case.engine.infer(call) for call in inputs))
    assert case.batch_sizes == [8]
    assert all(map(same, joined, alone))


async def test_results_share_no_memory(open_case: Open) -> None:
    case = open_case()
    inputs = [case.good(seed) for seed in range(3)]
    results = await asyncio.gather(*(case.engine.infer(call) for call in inputs))
    arrays = [array for tensors in (*results, *inputs) for array in tensors.values()]
    for i, left in enumerate(arrays):
        assert not any(np.shares_memory(left, right) for right in arrays[i + 1 :])
    for result in results:
        for array in result.values():
            assert array.flags.writeable and array.base is None


async def test_calls_made_during_a_run_join_the_next(open_case: Open) -> None:
    case = open_case()
    first = await occupy(case)
    waiting = [asyncio.create_task(case.engine.infer(case.good(i))) for i in range(5)]
    await turns()
    case.release()
    await asyncio.gather(first, *waiting)
    assert case.batch_sizes == [1, 5]


async def test_a_batch_is_never_larger_than_allowed_and_in_order(open_case: Open) -> None:
    case = open_case()
    ended: list[int] = []

    async def call(i: int, num_rows: int) -> None:
        await case.engine.infer(case.good(i, num_rows))
        ended.append(i)

    first = await occupy(case)
    tasks = [asyncio.create_task(call(i, n)) for i, n in enumerate([5, 4, 4, 1, 8])]
    await turns()
    case.release()
    await asyncio.gather(first, *tasks)
    assert case.batch_sizes == [1, 5, 8, 1, 8]
    assert ended == [0, 1, 2, 3, 4]


async def test_a_full_queue_refuses(open_case: Open) -> None:
    case = open_case(max_waiting_calls=2)
    tasks = [await occupy(case)]
    tasks += [asyncio.create_task(case.engine.infer(case.good(i))) for i in range(2)]
    await turns()
    with pytest.raises(EngineOverloaded) as caught:
        await case.engine.infer(case.good(3))
    assert caught.value.retryable
    case.release()
    await asyncio.gather(*tasks)
    await case.engine.infer(case.good(4))


async def test_an_expired_call_is_never_run(open_case: Open) -> None:
    case = open_case()
    first = await occupy(case)
    with pytest.raises(EngineTimeout, match="while it waited") as caught:
        await case.engine.infer(case.good(1), timeout_s=0.02)
    assert caught.value.retryable
    case.release()
    await first
    await case.engine.infer(case.good(2))
    assert case.batch_sizes == [1, 1]


async def test_a_call_that_expired_while_the_loop_was_busy_is_not_run(open_case: Open) -> None:
    case = open_case()
    call = asyncio.create_task(case.engine.infer(case.good(1), timeout_s=0.02))
    asyncio.get_running_loop().call_soon(time.sleep, 0.05)
    with pytest.raises(EngineTimeout):
        await call
    assert case.batch_sizes == []


@pytest.mark.parametrize("timeout_s", [0, -1])
async def test_no_time_at_all_is_a_timeout(open_case: Open, timeout_s: float) -> None:
    case = open_case()
    with pytest.raises(EngineTimeout):
        await case.engine.infer(case.good(1), timeout_s=timeout_s)
    assert case.batch_sizes == []


async def test_a_running_call_times_out_and_the_engine_goes_on(open_case: Open) -> None:
    case = open_case(default_timeout_s=0.05)
    first = await occupy(case)
    with pytest.raises(EngineTimeout, match="while it ran"):
        await first
    case.release()
    await case.engine.infer(case.good(2), timeout_s=5)


async def test_cancelling_a_waiting_call_frees_its_place(open_case: Open) -> None:
    case = open_case(max_waiting_calls=1)
    first = await occupy(case)
    waiting = asyncio.create_task(case.engine.infer(case.good(1)))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    second = asyncio.create_task(case.engine.infer(case.good(2)))
    await turns()
    case.release()
    await asyncio.gather(first, second)
    assert case.batch_sizes == [1, 1]


async def test_cancelling_one_of_a_running_batch_leaves_the_others(open_case: Open) -> None:
    case = open_case()
    case.hold()
    tasks = [asyncio.create_task(case.engine.infer(case.good(i))) for i in range(3)]
    await begun(case)
    tasks[1].cancel()
    await turns()
    case.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    for i in (0, 2):
        assert same(results[i], await case.engine.infer(case.good(i)))  # pyright: ignore


async def test_a_fault_is_not_retryable_and_the_engine_goes_on(open_case: Open) -> None:
    case = open_case()
    with pytest.raises(EngineFault, match=case.engine.spec.name) as caught:
        await case.engine.infer(case.faulty())
    assert not caught.value.retryable
    await case.engine.infer(case.good(1))


@pytest.mark.parametrize("kind", ["faulty", "nan"])
async def test_one_bad_call_does_not_fail_the_others(open_case: Open, kind: str) -> None:
    case = open_case()
    alone = [await case.engine.infer(case.good(i)) for i in range(3)]
    del case.batch_sizes[:]
    calls = [case.good(0), case.good(1), getattr(case, kind)(), case.good(2)]
    results = await asyncio.gather(*map(case.engine.infer, calls), return_exceptions=True)
    assert isinstance(results.pop(2), EngineFault)
    assert all(map(same, results, alone))  # pyright: ignore
    assert case.batch_sizes == [4, 1, 1, 1, 1]


async def test_nan_is_a_fault_that_names_its_output(open_case: Open) -> None:
    case = open_case()
    with pytest.raises(EngineFault, match=f"output {case.engine.spec.outputs[0].name} holds NaN"):
        await case.engine.infer(case.nan())


async def test_close_ends_running_and_waiting_calls(open_case: Open) -> None:
    case = open_case()
    tasks = [await occupy(case)]
    tasks += [asyncio.create_task(case.engine.infer(case.good(i))) for i in range(3)]
    await turns()
    await case.engine.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [EngineUnavailable] * 4
    with pytest.raises(EngineUnavailable, match="closed") as caught:
        await case.engine.infer(case.good(1))
    assert caught.value.retryable
    await case.engine.close()
    assert case.batch_sizes == [1]


async def test_calls_and_runs_are_observed(open_case: Open, recorder: Recorder) -> None:
    case = open_case(max_waiting_calls=3)
    await asyncio.gather(*(case.engine.infer(case.good(i)) for i in range(2)))
    await asyncio.gather(case.engine.infer(case.faulty()), return_exceptions=True)
    with pytest.raises(InvalidTensor):
        await case.engine.infer({})
    first = await occupy(case)
    waiting = [asyncio.create_task(case.engine.infer(case.good(i))) for i in range(2)]
    late = asyncio.create_task(case.engine.infer(case.good(1), timeout_s=0.02))
    await turns()
    with pytest.raises(EngineOverloaded):
        await case.engine.infer(case.good(1))
    with pytest.raises(EngineTimeout):
        await late
    waiting[0].cancel()
    await turns()
    await case.engine.close()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    outcomes = [record.outcome for record in recorder.calls]
    assert outcomes == [
        *("ok", "ok", "fault", "invalid", "overloaded", "timeout", "cancelled"),
        *("unavailable", "unavailable"),
    ]
    assert [(b.batch_size, b.num_calls, b.failed) for b in recorder.batches[:2]] == [
        (2, 2, False),
        (1, 1, True),
    ]
    name, role = case.engine.spec.name, case.engine.spec.role
    assert {(r.engine, r.role) for r in (*recorder.calls, *recorder.batches)} == {(name, role)}
    timed_out = recorder.calls[5]
    assert 0.02 <= timed_out.queue_s == timed_out.total_s
    assert all(0 <= r.queue_s <= r.total_s for r in recorder.calls)


async def test_satisfies_the_protocol(open_case: Open) -> None:
    engine: Engine = open_case().engine
    assert engine.spec.inputs and engine.spec.outputs
