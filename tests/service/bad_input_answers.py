"""Sends the bad inputs to real gateways; writes `docs/errors.md` from what these answer.

python -m tests.service.bad_input_answers
"""

# ruff: noqa: E501 - tables, one case a line

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.face_detector import FaceDetector

from tests.service.bad_inputs import CASES, SECTIONS, BadInput
from tests.service.gateway import Gateway, Refusal, as_refusal, running_gateway

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
ACCEPTED = Refusal("OK", "", "", "", (), None)
_METHOD = "/mirrorme.animate.v1.AnimationService/StreamAnimate"


class Answers:
    """Gateways to ask, one for each group of settings."""

    def __init__(self, gateways: dict[tuple[tuple[str, object], ...], Gateway]) -> None:
        self._gateways = gateways

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Answers]:
        """Starts the gateways that the cases want."""
        finder = FaceDetector()
        async with AsyncExitStack() as stack:
            gateways = {}
            for case in CASES:
                key = tuple(case.settings.items())
                if key not in gateways:
                    running = running_gateway(face_finder=finder, **case.settings)
                    gateways[key] = await stack.enter_async_context(running)
            yield cls(gateways)

    @property
    def gateway(self) -> Gateway:
        """The one with the default settings."""
        return self._gateways[()]

    async def answer(self, case: BadInput) -> Refusal:
        """What a client is told."""
        gateway = self._gateways[tuple(case.settings.items())]
        sent = case.send()
        try:
            if isinstance(sent, pb.RegisterPortraitRequest):
                await gateway.stub.RegisterPortrait(sent)
            else:
                call = gateway.channel.stream_stream(_METHOD, request_serializer=_serialized)
                async for _response in call(sent):
                    pass
        except grpc.aio.AioRpcError as error:
            return as_refusal(error)
        return ACCEPTED


def _serialized(message: pb.StreamAnimateRequest | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


async def document() -> str:
    """The text of `docs/errors.md`."""
    lines = [_HEAD]
    async with Answers.open() as answers:
        for section, cases in SECTIONS.items():
            lines += [f"## {section}", "", "| sent | status | reason | field | message |"]
            lines.append("|---|---|---|---|---|")
            for case in cases:
                told = await answers.answer(case)
                lines.append(f"| {_sent(case)} | {_cells(told)} |")
            lines.append("")
    return "\n".join([*lines, _TAIL])


def _sent(case: BadInput) -> str:
    settings = ", ".join(f"`{name} = {value:g}`" for name, value in case.settings.items())
    return f"{case.name} ({settings})" if settings else case.name


def _cells(told: Refusal) -> str:
    codes = [f"`{code}`" if code else "" for code in (told.status, told.reason, told.field)]
    return " | ".join([*codes, told.message.replace("|", "\\|")])


_HEAD = """\
# Errors

What clients may send wrongly, and what they are told. Every row was sent to a real server and shows
its real answer; `tests/service/bad_inputs.py` holds the cases, `python -m
tests.service.bad_input_answers` writes this page, and a test compares the two.

An error ends its own session and touches no other. It carries `google.rpc` details: `ErrorInfo`
with the domain `mirrorme.animate`, the reason (stable; programs may act on it) and in its metadata
the field, what was got and what is expected; `BadRequest` where a field is at fault; `RetryInfo`
where trying again can help. Limits named in messages are the defaults; `GetCapabilities` says those
in force. Rows with the status `OK` look wrong but are taken.
"""

_TAIL = """\
## Who may call

Only where the server asks for it; see [security](security.md). A client whose certificate is missing,
expired or of another authority does not get through TLS, and sees `UNAVAILABLE` from gRPC itself.

| when | status | reason | field |
|---|---|---|---|
| no token | `UNAUTHENTICATED` | `TOKEN_MISSING` |  |
| a token that the server does not know, or that does not hold | `UNAUTHENTICATED` | `TOKEN_INVALID` |  |
| a token that held once | `UNAUTHENTICATED` | `TOKEN_EXPIRED` |  |
| a certificate of another name | `PERMISSION_DENIED` | `CERTIFICATE_NOT_ALLOWED` |  |
| more sessions at once than the token, or `max_sessions_per_address`, allows | `RESOURCE_EXHAUSTED` | `CALLER_SESSIONS_FULL` |  |
| no consent token | `PERMISSION_DENIED` | `CONSENT_MISSING` | `config.consent_token` |
| a consent token that does not hold | `PERMISSION_DENIED` | `CONSENT_INVALID` | `config.consent_token` |
| a consent token that held once | `PERMISSION_DENIED` | `CONSENT_EXPIRED` | `config.consent_token` |
| a consent token for another portrait | `PERMISSION_DENIED` | `CONSENT_OTHER` | `config.consent_token` |

## Not the request's fault

| when | status | reason | RetryInfo |
|---|---|---|---|
| all places for sessions are taken | `RESOURCE_EXHAUSTED` | `SESSIONS_FULL` | yes |
| more calls at once than the server takes at all | `RESOURCE_EXHAUSTED` | none, by gRPC | no |
| the server is shutting down | `UNAVAILABLE` | `SERVER_DRAINING` | yes |
| the store that has the session does not answer | `UNAVAILABLE` | `STORE_UNAVAILABLE` | yes |
| another stream took the session up | `ABORTED` | `SESSION_TAKEN_OVER` | no |
| the engines' queues are full | `RESOURCE_EXHAUSTED` | `ENGINE_OVERLOADED` | yes |
| an engine did not answer in time, tried again in vain | `UNAVAILABLE` | `ENGINE_TIMEOUT` | yes |
| an engine is out of reach, tried again in vain | `UNAVAILABLE` | `ENGINE_UNAVAILABLE` | yes |
| an engine failed, or gave values that are no numbers | `INTERNAL` | `ENGINE_FAULT` | no |
| a portrait waited and was decoded for more than 20 s | `DEADLINE_EXCEEDED` | `PORTRAIT_TIMED_OUT` | yes |
| decoding a portrait took more processor time or memory than it may ([security](security.md)) | \
`INVALID_ARGUMENT` | `PORTRAIT_TOO_COSTLY` | no |
| the process that decoded a portrait died | `INTERNAL` | `PORTRAIT_DECODER_DIED` | no |
| no request came for `max_idle_s` | `DEADLINE_EXCEEDED` | `SESSION_IDLE` | no |
| nothing could be sent for `max_idle_s`, in real time `max_stall_s`: the client does not read | \
`DEADLINE_EXCEEDED` | `CLIENT_NOT_READING` | no |
| a fault of the server's own | `INTERNAL` | `INTERNAL_FAULT` | no |

A client that goes away, at whatever stage, ends its session: engine calls that wait are dropped,
and all that the session held is freed (`tests/service/test_flow.py`).
"""

if __name__ == "__main__":
    DOCUMENT.write_text(asyncio.run(document()))
