"""Every bad input gets its answer, harms nobody else, and stands in the documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.service.bad_input_answers import DOCUMENT, Answers, document
from tests.service.bad_inputs import CASES, BadInput
from tests.service.gateway import animate, audio, config, speech

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def answers() -> AsyncIterator[Answers]:
    async with Answers.open() as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_answer(answers: Answers, case: BadInput) -> None:
    told = await asyncio.wait_for(answers.answer(case), 10)
    assert (told.status, told.reason, told.field) == (case.status, case.reason, case.field)
    assert bool(told.message) == (case.status != "OK")
    assert ("google.rpc.ErrorInfo" in told.details) == bool(case.reason)
    assert ("google.rpc.BadRequest" in told.details) == bool(case.field)


async def test_no_other_session_is_touched(answers: Answers) -> None:
    """All bad inputs at once beside one good session."""
    gateway = answers.gateway
    good = [config(seed=21), *(audio(speech(500, seed=i)) for i in range(100))]
    alone = await animate(gateway.stub, good)
    beside = asyncio.create_task(animate(gateway.stub, good))
    for case in CASES:
        await answers.answer(case)
    assert (await beside).pixels == alone.pixels
    await gateway.until_idle()


@pytest.mark.timeout(600)  # every case again, one after the other
async def test_documentation_is_not_stale() -> None:
    current = await document()
    assert DOCUMENT.read_text() == current, "run `python -m tests.service.bad_input_answers`"
