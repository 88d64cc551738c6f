"""Fixtures of the service's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.service.gateway import Gateway, running_gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    """One gateway with the default settings, shared: a test may not change it."""
    async with running_gateway() as running:
        yield running
