"""The error family: statuses, details, and that no input makes a status that cannot be sent."""

from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st
from mirrorme_engines import errors as engine_errors
from mirrorme_service import errors
from mirrorme_service.error_border import error_border
from mirrorme_service.metrics import Metrics

M = TypeVar("M", bound=Message)


def detail(error: errors.AnimationError, kind: type[M]) -> M | None:
    for packed in error.to_status().details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


def test_invalid_request_names_field_got_and_expected() -> None:
    error = errors.InvalidRequest(
        "AUDIO_RATE_UNSUPPORTED",
        "config.audio_format.sample_rate_hz is 96000: want 8000 to 48000",
        field="config.audio_format.sample_rate_hz",
        got=96000,
        expected="8000..48000",
    )
    status = error.to_status()
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == error.message
    info = detail(error, error_details_pb2.ErrorInfo)
    assert info is not None
    assert (info.domain, info.reason) == ("mirrorme.animate", "AUDIO_RATE_UNSUPPORTED")
    assert dict(info.metadata) == {
        "field": "config.audio_format.sample_rate_hz",
        "got": "96000",
        "expected": "8000..48000",
    }
    bad = detail(error, error_details_pb2.BadRequest)
    assert bad is not None
    assert bad.field_violations[0].field == "config.audio_format.sample_rate_hz"
    assert bad.field_violations[0].description == error.message
    assert detail(error, error_details_pb2.RetryInfo) is None


def test_at_capacity_says_when_to_try_again() -> None:
    error = errors.AtCapacity("SESSIONS_EXHAUSTED", "8 of 8 sessions are open", retry_after_s=2.5)
    retry = detail(error, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 2500
    assert error.retryable
    assert detail(error, error_details_pb2.BadRequest) is None


def test_not_served_names_the_field() -> None:
    error = errors.NotServed("interrupt")
    assert error.status_code is grpc.StatusCode.UNIMPLEMENTED
    assert "interrupt" in error.message
    assert error.field == "interrupt"


@pytest.mark.parametrize(
    ("raised", "code", "reason", "retryable"),
    [
        (engine_errors.EngineOverloaded("full"), "RESOURCE_EXHAUSTED", "ENGINE_OVERLOADED", True),
        (engine_errors.EngineTimeout("2 s"), "UNAVAILABLE", "ENGINE_TIMEOUT", True),
        (engine_errors.EngineUnavailable("gone"), "UNAVAILABLE", "ENGINE_UNAVAILABLE", True),
        (engine_errors.EngineFault("NaN"), "INTERNAL", "ENGINE_FAULT", False),
        (engine_errors.InvalidTensor("dtype"), "INTERNAL", "ENGINE_CALL_INVALID", False),
        (engine_errors.ManifestError("odd"), "INTERNAL", "ENGINE_FAULT", False),
    ],
)
def test_engine_errors_are_translated(
    raised: engine_errors.EngineError, code: str, reason: str, retryable: bool
) -> None:
    error = errors.from_engine(raised)
    assert error.status_code is grpc.StatusCode[code]
    assert (error.reason, error.retryable) == (reason, retryable)
    assert (error.retry_after_s is not None) == retryable
    assert str(raised) in error.message


def test_reasons_are_upper_snake() -> None:
    with pytest.raises(AssertionError):
        errors.InvalidRequest("no reason", "text")


@given(text=st.text(max_size=3000), filler=st.integers(0, 3000))
def test_any_text_makes_a_status_that_fits_the_trailers(text: str, filler: int) -> None:
    long = text + "é" * filler
    error = errors.InvalidRequest("ODD", long, field="config", got=long, expected=long)
    status = error.to_status()
    sent = rpc_status.to_status(status)
    percent_encoded = 3 * len(status.message.encode())
    binary = sum(len(value) for _, value in sent.trailing_metadata) * 4 // 3
    assert percent_encoded + binary < 6000
    assert "\n" not in status.message


class Told:
    """The context of an RPC whose client is gone, or is not."""

    def __init__(self, *, is_gone: bool) -> None:
        self._is_gone = is_gone

    async def abort_with_status(self, _status: Any) -> None:
        if self._is_gone:
            raise grpc.aio.InternalError("nobody is there")


@pytest.mark.parametrize(
    ("error", "num_counted"),
    [(grpc.aio.InternalError("a write failed"), 0), (ValueError("ours"), 1)],
)
async def test_a_client_that_went_away_is_no_fault_of_ours(
    error: Exception, num_counted: int, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, context = Metrics(), Told(is_gone=not num_counted)
    async with error_border(context, "StreamAnimate", metrics):  # pyright: ignore[reportArgumentType]
        raise ExceptionGroup("tasks", [error])
    labels = {"rpc": "StreamAnimate", "status": "INTERNAL", "reason": "INTERNAL_FAULT"}
    counted = metrics.registry.get_sample_value("mirrorme_errors_total", labels) or 0
    assert counted == num_counted
    assert sum(record.levelname == "ERROR" for record in caplog.records) == num_counted
