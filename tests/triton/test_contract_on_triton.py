"""The contract suite of all engines against a real Triton server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.errors import (
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
)
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.triton_engine import TritonEngine, open_triton_engines
from mirrorme_engines.triton_options import TritonOptions

from tests.engines.engine_cases import TinyInputs
from tests.engines.test_engine_contract import (  # noqa: F401 - pytest runs them from here
    Recorder,
    recorder,
    same,
    test_a_fault_is_not_retryable_and_the_engine_goes_on,
    test_bad_inputs_are_refused_by_name,
    test_batch_size_out_of_range_is_refused,
    test_different_inputs_give_different_results,
    test_inputs_are_not_changed,
    test_nan_is_a_fault_that_names_its_output,
    test_no_time_at_all_is_a_timeout,
    test_noncontiguous_inputs,
    test_outputs_are_as_the_spec_says,
    test_results_share_no_memory,
    test_satisfies_the_protocol,
)
from tests.triton.small_repository import make_inputs
from tests.triton.triton_process import TritonProcess

pytestmark = pytest.mark.triton


class TritonCase(TinyInputs):
    def __init__(self, engine: TritonEngine) -> None:
        self.engine = engine
        self.batch_sizes: list[int] = []


@pytest.fixture
async def engines(
    models: Path,
    server: TritonProcess,
    recorder: Recorder,  # noqa: F811
) -> AsyncIterator[EngineSet]:
    opened = await open_triton_engines(models, TritonOptions((server.address,)), recorder)
    yield opened
    await opened.close()


@pytest.fixture
async def open_case(engines: EngineSet, manifest: Manifest) -> AsyncIterator[Callable]:
    assert isinstance(engines.decoder, TritonEngine)
    spec = next(spec for spec in manifest.engines if spec.name == "tiny")
    tiny = TritonEngine(spec, "1", engines.decoder.pool, TritonOptions(("unused:1",)))
    yield lambda: TritonCase(tiny)
    await tiny.close()


@pytest.fixture
def tiny(open_case: Callable) -> TritonCase:
    return open_case()


async def test_same_results_as_in_process(
    engines: EngineSet, models: Path, server: TritonProcess
) -> None:
    local = await open_engines(models)
    assert "Triton 2." in engines.platform
    for far, near in zip(engines.engines, local.engines, strict=True):
        for batch_size in range(1, far.spec.max_batch_size + 1):
            inputs = make_inputs(far.spec, batch_size, seed=3)
            got, want = await far.infer(inputs), await near.infer(inputs)
            for name in want:
                difference = got[name].astype(np.float64) - want[name]
                bound = 1 if want[name].dtype == np.uint8 else 1e-5
                assert np.abs(difference).max() <= bound
    await local.close()


async def test_batches_join_calls_and_change_nothing(
    tiny: TritonCase, server: TritonProcess
) -> None:
    inputs = [tiny.good(seed, 1 + seed % 2) for seed in range(24)]
    alone = [await tiny.engine.infer(call) for call in inputs]
    before = server.counts("tiny")
    joined = await asyncio.gather(*(tiny.engine.infer(call) for call in inputs))
    after = server.counts("tiny")
    assert all(map(same, joined, alone))
    assert after[0] - before[0] == sum(len(call["x"]) for call in inputs)
    assert after[1] - before[1] < len(inputs)


async def test_calls_at_once_never_stand_still(engines: EngineSet) -> None:
    """Triton's batcher can sleep for 500 ms beside a full queue and a free instance."""
    inputs = [make_inputs(engines.decoder.spec, 1 + i % 4, i) for i in range(6)]
    rounds_s: list[float] = []
    for _ in range(20):
        started = time.monotonic()
        await asyncio.gather(*map(engines.decoder.infer, inputs))
        rounds_s.append(time.monotonic() - started)
    # A busy machine may delay a round or two; the batcher would delay six of twelve.
    assert sum(round_s >= 0.45 for round_s in rounds_s) <= 3


@pytest.mark.parametrize("kind", ["faulty", "nan"])
async def test_one_bad_call_does_not_fail_the_others(tiny: TritonCase, kind: str) -> None:
    alone = [await tiny.engine.infer(tiny.good(i)) for i in range(7)]
    calls = [tiny.good(i) for i in range(7)]
    calls.insert(3, getattr(tiny, kind)())
    results = await asyncio.gather(*map(tiny.engine.infer, calls), return_exceptions=True)
    assert isinstance(results.pop(3), EngineFault)
    assert all(map(same, results, alone))


async def test_a_running_call_times_out_and_the_engine_goes_on(
    tiny: TritonCase, server: TritonProcess
) -> None:
    server.signal_model("tiny", signal.SIGSTOP)
    try:
        with pytest.raises(EngineTimeout, match="while it ran") as caught:
            await tiny.engine.infer(tiny.good(1), timeout_s=0.2)
    finally:
        server.signal_model("tiny", signal.SIGCONT)
    assert caught.value.retryable
    await tiny.engine.infer(tiny.good(1))


async def test_close_ends_running_calls(
    tiny: TritonCase, engines: EngineSet, server: TritonProcess
) -> None:
    server.signal_model("tiny", signal.SIGSTOP)
    try:
        calls = [asyncio.create_task(tiny.engine.infer(tiny.good(i))) for i in range(3)]
        await asyncio.sleep(0.1)
        await tiny.engine.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        server.signal_model("tiny", signal.SIGCONT)
    assert [type(result) for result in results] == [EngineUnavailable] * 3
    with pytest.raises(EngineUnavailable, match="closed"):
        await tiny.engine.infer(tiny.good(1))
    await tiny.engine.close()
    # The other engines of the set are untouched.
    await engines.decoder.infer(make_inputs(engines.decoder.spec, 1))


async def test_cancelling_a_call_leaves_the_others(tiny: TritonCase, server: TritonProcess) -> None:
    server.signal_model("tiny", signal.SIGSTOP)
    calls = [asyncio.create_task(tiny.engine.infer(tiny.good(i))) for i in range(3)]
    await asyncio.sleep(0.1)
    calls[1].cancel()
    await asyncio.sleep(0.05)
    server.signal_model("tiny", signal.SIGCONT)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    for i in (0, 2):
        assert same(results[i], await tiny.engine.infer(tiny.good(i)))  # pyright: ignore


async def test_calls_are_observed(engines: EngineSet, recorder: Recorder) -> None:  # noqa: F811
    spec = engines.decoder.spec
    await engines.decoder.infer(make_inputs(spec, 1))
    (record,) = recorder.calls
    assert (record.engine, record.role, record.outcome) == (spec.name, "decoder", "ok")
    assert 0 <= record.queue_s <= record.total_s


async def test_callers_that_give_up_leave_the_server_well(models: Path, tmp_path: Path) -> None:
    """Cancelled inferences stay in Triton 2.51 for ever: it crashes, or cannot end politely."""
    server = TritonProcess(models, tmp_path / "log").start()
    engines = await open_triton_engines(models, TritonOptions((server.address,)))
    rng = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()

    async def give_up(number: int) -> None:
        engine = engines.engines[number % len(engines.engines)]
        inputs = make_inputs(engine.spec, 1 + number % 4, number)
        for _ in range(150):
            if rng.random() < 0.5:
                call = engine.infer(inputs, timeout_s=float(rng.uniform(0.0005, 0.01)))
            else:
                call = asyncio.wait_for(engine.infer(inputs), float(rng.uniform(0, 0.02)))
            try:
                await call
                outcomes["answered"] += 1
            except (EngineTimeout, EngineOverloaded, TimeoutError):
                outcomes["given up"] += 1

    try:
        await asyncio.gather(*map(give_up, range(12)))
        assert outcomes["given up"] > 300
        await engines.close()
        assert server.running()
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait) == 0
        assert "Exit timeout expired" not in server.log()
    finally:
        server.stop()
