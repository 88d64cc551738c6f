"""The border to gRPC: whatever an RPC raises becomes one status with `google.rpc` details.

Here alone is `Exception` caught.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status
from mirrorme_engines.errors import EngineError

from mirrorme_service.errors import AnimationError, InternalFault, InvalidRequest, from_engine
from mirrorme_service.metrics import Metrics

log = logging.getLogger(__name__)


@asynccontextmanager
async def error_border(
    context: grpc.aio.ServicerContext, rpc: str, metrics: Metrics
) -> AsyncIterator[None]:
    """Ends the RPC with the error that is raised inside. A cancelled RPC stays cancelled.

    A client that went away while it was written to is not an error of the server's.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        _forget(error)
        raise
    except Exception as error:
        refusal = as_animation_error(error)
        code = refusal.status_code
        fields = {"rpc": rpc, "status": code.name, "reason": refusal.reason}
        is_gone = is_client_gone(error)
        if is_gone:
            log.info("%s: the client went away while it was written to", rpc)
        elif code is grpc.StatusCode.INTERNAL:
            log.error(
                "%s failed: %s: %s", rpc, refusal.reason, refusal, exc_info=error, extra=fields
            )
        else:
            line = "%s ended: %s %s: %s"
            log.info(line, rpc, code.name, refusal.reason, refusal, extra=fields)
        if not is_gone:
            metrics.errors.labels(rpc, code.name, refusal.reason).inc()
        _forget(error)
        status = rpc_status.to_status(refusal.to_status())
        try:
            # The type stubs lack the method.
            await context.abort_with_status(status)  # pyright: ignore[reportAttributeAccessIssue]
        except grpc.aio.InternalError:
            if not is_gone:
                log.info("%s: the client went away before it was told", rpc)


def is_client_gone(error: BaseException) -> bool:
    """Whether nobody is left to be told: the RPC was cancelled, or cannot be written to."""
    return all(
        isinstance(leaf, asyncio.CancelledError | grpc.aio.BaseError) for leaf in _leaves(error)
    )


def as_animation_error(error: BaseException) -> AnimationError:
    """The error in the gateway's words; of a group, the one that says most to the caller."""
    leaves = _leaves(error)
    for leaf in leaves:
        match leaf:
            case AnimationError():
                return leaf
            case EngineError():
                return from_engine(leaf)
            case DecodeError():
                message = f"a request is not a message of this contract: {leaf}"
                return InvalidRequest("MESSAGE_MALFORMED", message)
    kind = type(leaves[0]).__name__
    message = f"the server met a fault of its own ({kind}): report it with the session's id"
    return InternalFault("INTERNAL_FAULT", message)


def _forget(error: BaseException | None) -> None:
    """Frees what the error's way here holds.

    A client that does not read is told much later, and of a task group that was cancelled the error
    and its frames hold each other.
    """
    if error is None or error.__traceback__ is None:
        return
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    _forget(error.__cause__)
    _forget(error.__context__)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            _forget(inner)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
