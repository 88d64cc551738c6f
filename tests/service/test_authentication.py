"""Bearer tokens: who is let in, who is told what, and that nothing is done before."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.authentication import Authenticator, JwtRule
from mirrorme_service.caller import ANYBODY, Caller, addressed_caller, set_caller
from mirrorme_service.config import ServiceConfig
from mirrorme_service.errors import Unauthenticated
from mirrorme_service.grpc_ports import StartError
from mirrorme_service.jwt_keys import JwtKeys
from mirrorme_service.session_watchdog import SessionWatchdog
from mirrorme_service.static_tokens import StaticTokens
from mirrorme_service.wall_clock import SystemClock

from tests.service.gateway import Gateway, as_refusal, config, refusal, running_gateway

TOKEN = "f3c1b5d9e2a84760a1f0c7d6"
SECRET = b"0123456789abcdef0123456789abcdef"


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(f"""
[[token]]
name = "shop"
sha256 = "{sha256(TOKEN)}"
max_sessions = 1

[[token]]
name = "last year's"
sha256 = "{sha256("old" + TOKEN)}"
not_after = 2025-12-31
""")
    return path


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def reason(authenticator: Authenticator, metadata: list[tuple[str, str | bytes]]) -> str:
    with pytest.raises(Unauthenticated) as caught:
        authenticator.authenticate(metadata)
    return caught.value.reason


def test_anybody_is_let_in_where_nothing_is_asked_for() -> None:
    authenticator = Authenticator(None, None)
    assert authenticator.authenticate([]) is ANYBODY
    assert authenticator.authenticate(bearer("whatever")) is ANYBODY


def test_static_tokens(tokens: Path) -> None:
    authenticator = Authenticator(StaticTokens(tokens), None)
    assert authenticator.authenticate(bearer(TOKEN)) == Caller("shop", 1, None)
    assert authenticator.authenticate([("authorization", f"bearer  {TOKEN} ")]).name == "shop"
    assert reason(authenticator, []) == "TOKEN_MISSING"
    for wrong in (TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "", "x" * 9000, sha256(TOKEN)):
        assert reason(authenticator, bearer(wrong)) == "TOKEN_INVALID"
    assert reason(authenticator, [("authorization", f"Basic {TOKEN}")]) == "TOKEN_INVALID"
    assert reason(authenticator, [("authorization", b"Bearer \xff")]) == "TOKEN_INVALID"
    assert reason(authenticator, bearer(TOKEN) * 2) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("not_after", "now", "holds"),
    [
        ("2025-12-31", "2025-12-31T23:59:00Z", True),
        ("2025-12-31", "2026-01-01T00:00:01Z", False),
        ("2025-12-31T12:00:00", "2025-12-31T11:59:59Z", True),
        ("2025-12-31T12:00:00+02:00", "2025-12-31T10:00:01Z", False),
    ],
)
def test_static_tokens_expire(tmp_path: Path, not_after: str, now: str, holds: bool) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[[token]]\nname="a"\nsha256="{sha256(TOKEN)}"\nnot_after={not_after}\n')
    tokens = StaticTokens(path, lambda: datetime.fromisoformat(now))
    if holds:
        assert tokens.find(TOKEN) == Caller("a")
    else:
        with pytest.raises(Unauthenticated, match="expired"):
            tokens.find(TOKEN)


def test_changed_tokens_count_from_then_on(tokens: Path) -> None:
    held = StaticTokens(tokens)
    tokens.write_text(f'[[token]]\nname="b"\nsha256="{sha256("another")}"\n')
    assert held.find(TOKEN) is None
    assert held.find("another") == Caller("b")
    tokens.write_text("[[token]]\nname=")  # half written
    assert held.find("another") == Caller("b")
    tokens.write_text("")
    assert held.find("another") is None


@pytest.mark.parametrize(
    "text",
    [
        "token = 1",
        "[other]",
        '[[token]]\nname = "a"',
        '[[token]]\nname = "a"\nsha256 = "abc"',
        f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nmax_session = 1',
        f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nmax_sessions = -1',
        f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nnot_after = "soon"',
        f'[[token]]\nname = ""\nsha256 = "{"0" * 64}"',
    ],
)
def test_files_that_are_wrong_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tokens\.toml is no file of tokens"):
        StaticTokens(path)


def claims(**changes: Any) -> dict[str, Any]:
    good = {"sub": "shop", "aud": "mirrorme", "iss": "issuer", "exp": time.time() + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


KEYS: dict[str, Any] = {
    "HS256": SECRET,
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
Rule = Callable[[bytes], Authenticator]


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """An authenticator of tokens that a key file verifies."""

    def made(content: bytes) -> Authenticator:
        path = tmp_path / "keys"
        path.write_bytes(content)
        return Authenticator(None, JwtRule(JwtKeys(path), "mirrorme", "issuer"))

    return made


def jwk(algorithm: str, key_id: str) -> dict[str, Any]:
    method = jwt.get_algorithm_by_name(algorithm)
    key = KEYS[algorithm]
    public = key if algorithm == "HS256" else key.public_key()
    return {**json.loads(method.to_jwk(public)), "kid": key_id, "alg": algorithm}


@pytest.mark.parametrize("algorithm", KEYS)
def test_json_web_tokens_of_a_key_file(rule: Rule, algorithm: str) -> None:
    key = KEYS[algorithm]
    authenticator = rule(key if algorithm == "HS256" else public_pem(key))
    limits = {"max_sessions": 3, "max_requests_per_s": 2.5}
    token = jwt.encode(claims(mirrorme=limits), key, algorithm)
    assert authenticator.authenticate(bearer(token)) == Caller("shop", 3, 2.5)
    other = {"HS256": b"x" * 32, "RS256": rsa.generate_private_key(65537, 2048)}
    other |= {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    forged = jwt.encode(claims(), other[algorithm], algorithm)
    assert reason(authenticator, bearer(forged)) == "TOKEN_INVALID"


def test_json_web_tokens_of_a_key_set(rule: Rule) -> None:
    keys = {"keys": [jwk(algorithm, f"key-{algorithm}") for algorithm in KEYS]}
    authenticator = rule(json.dumps(keys).encode())
    for algorithm, key in KEYS.items():
        token = jwt.encode(claims(), key, algorithm, headers={"kid": f"key-{algorithm}"})
        assert authenticator.authenticate(bearer(token)) == Caller("shop")
        unnamed = jwt.encode(claims(), key, algorithm, headers={"kid": "another"})
        assert reason(authenticator, bearer(unnamed)) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": time.time() - 120}, "TOKEN_EXPIRED"),
        ({"exp": None}, "TOKEN_INVALID"),
        ({"aud": "another"}, "TOKEN_INVALID"),
        ({"aud": None}, "TOKEN_INVALID"),
        ({"iss": "another"}, "TOKEN_INVALID"),
        ({"iss": None}, "TOKEN_INVALID"),
        ({"sub": None}, "TOKEN_INVALID"),
        ({"nbf": time.time() + 3600}, "TOKEN_INVALID"),
        ({"mirrorme": {"max_sessions": "many"}}, "TOKEN_INVALID"),
        ({"mirrorme": {"max_sessions": -1}}, "TOKEN_INVALID"),
        ({"mirrorme": "no limits"}, "TOKEN_INVALID"),
    ],
)
def test_json_web_tokens_that_do_not_hold(
    rule: Rule, changes: dict[str, Any], expected: str
) -> None:
    token = jwt.encode(claims(**changes), SECRET, "HS256")
    assert reason(rule(SECRET), bearer(token)) == expected


def test_no_token_chooses_its_algorithm(rule: Rule) -> None:
    """Neither none, nor a public key taken for a shared secret."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    public = rule(public_pem(KEYS["RS256"]))
    unsigned = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims())}."
    assert reason(public, bearer(unsigned)) == "TOKEN_INVALID"
    unsigned = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims())}."
    assert reason(public, bearer(unsigned)) == "TOKEN_INVALID"
    assert reason(public, bearer("a.b.c")) == "TOKEN_INVALID"


def test_keys_may_change(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(SECRET)
    authenticator = Authenticator(None, JwtRule(JwtKeys(path), "mirrorme", ""))
    old, new = (jwt.encode(claims(), key, "HS256") for key in (SECRET, b"y" * 40))
    authenticator.authenticate(bearer(old))
    path.write_bytes(b"y" * 40)
    authenticator.authenticate(bearer(new))
    assert reason(authenticator, bearer(old)) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "content", [b"", b"short", b"-----BEGIN PUBLIC KEY-----\n", b'{"keys": []}']
)
async def test_a_server_does_not_start_without_a_usable_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(StartError, match="cannot verify tokens"):
        async with running_gateway(jwt_keys=tmp_path / "keys"):
            pass


async def refused(gateway: Gateway, metadata: Any) -> set[str]:
    """How each RPC of the service refuses."""
    found = set()
    portrait = pb.RegisterPortraitRequest(image=b"\x89PNG" + bytes(1 << 20))
    for call in (
        gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=metadata),
        gateway.stub.RegisterPortrait(portrait, metadata=metadata),
        gateway.stub.StreamAnimate(iter([config()]), metadata=metadata).read(),
        # Told at once, without a message.
        gateway.stub.StreamAnimate(metadata=metadata).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = as_refusal(caught.value)
        found.add(f"{error.status} {error.reason}")
    return found


async def test_calls_without_a_valid_token_are_refused_before_any_work(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_gateway(tokens=tokens) as gateway:
        assert await refused(gateway, None) == {"UNAUTHENTICATED TOKEN_MISSING"}
        assert await refused(gateway, bearer("wrong")) == {"UNAUTHENTICATED TOKEN_INVALID"}
        assert await refused(gateway, bearer("old" + TOKEN)) == {"UNAUTHENTICATED TOKEN_EXPIRED"}
        labels = {"status": "UNAUTHENTICATED", "reason": "TOKEN_INVALID"}
        errors = "mirrorme_errors_total"
        assert gateway.metric(errors, rpc="StreamAnimate", **labels) == 2
        assert gateway.metric("mirrorme_sessions_total", outcome="refused") == 0
        assert gateway.metric("mirrorme_identity_lookups_total", result="miss") == 0
        assert gateway.metric("mirrorme_engine_calls_total", engine="identity_encoder") == 0
        call = gateway.channel.unary_unary("/made.up/Method")
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await call(b"")
        assert gateway.metric(errors, rpc="other", **{**labels, "reason": "TOKEN_MISSING"}) == 1
        await gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=bearer(TOKEN))
    assert TOKEN not in caplog.text
    assert sha256(TOKEN) not in caplog.text


async def test_health_needs_no_token_but_reflection_does(tokens: Path) -> None:
    async with running_gateway(tokens=tokens) as gateway:
        health = health_pb2_grpc.HealthStub(gateway.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await reflection.ServerReflectionInfo([request]).read()


async def test_a_token_has_its_own_places(tokens: Path) -> None:
    async with running_gateway(tokens=tokens, max_sessions=3) as gateway:
        first = gateway.stub.StreamAnimate(metadata=bearer(TOKEN))
        await first.write(config())
        await first.read()
        second = gateway.stub.StreamAnimate(metadata=bearer(TOKEN))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await second.read()
        error = as_refusal(caught.value)
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "CALLER_SESSIONS_FULL")
        assert error.retry_delay_s
        await first.done_writing()
        while await first.read() is not grpc.aio.EOF:
            pass
        await gateway.until_idle()
        third = gateway.stub.StreamAnimate(metadata=bearer(TOKEN))
        await third.write(config())
        assert (await third.read()).HasField("started")
        third.cancel()


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("ipv4:192.0.2.7:40000", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:40000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:40000", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:40000", "fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:40000", "192.0.2.7"),
        ("unix:/run/gateway", "unix:/run/gateway"),
        ("", ""),
    ],
)
def test_callers_without_a_name_are_told_apart_by_address(peer: str, name: str) -> None:
    assert addressed_caller(peer, 2) == Caller(name, 2)
    assert addressed_caller(peer, 0) is ANYBODY


async def test_an_address_has_its_own_places(tmp_path: Path) -> None:
    async with running_gateway(max_sessions_per_address=1, max_sessions=3) as gateway:
        first = gateway.stub.StreamAnimate()
        await first.write(config())
        await first.read()
        error = await refusal(gateway.stub, [config()])
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "CALLER_SESSIONS_FULL")
        first.cancel()
        await gateway.until_idle()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[token]]\nname="a"\nsha256="{sha256(TOKEN)}"\n')
    async with running_gateway(max_sessions_per_address=1, tokens=tokens) as gateway:
        calls = [gateway.stub.StreamAnimate(metadata=bearer(TOKEN)) for _ in range(2)]
        for call in calls:
            await call.write(config())
            assert (await call.read()).HasField("started"), "tokens have their own limits"
            call.cancel()


class CountedWaits(SystemClock):
    """A clock that stands, and does not wait."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def now_s(self) -> float:
        return 0.0

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        assert until_s is not None
        self.waits_s.append(until_s)


@pytest.mark.parametrize(("own", "num_at_once"), [(None, 2000), (10, 20), (2.5, 5), (5000, 2000)])
async def test_a_token_has_its_own_rate(own: float | None, num_at_once: int) -> None:
    clock = CountedWaits()
    set_caller(Caller("shop", max_requests_per_s=own))
    watchdog = SessionWatchdog(ServiceConfig(max_requests_per_s=1000), clock, is_live=True)
    for _ in range(num_at_once):
        await watchdog.took_request()
    assert not clock.waits_s
    await watchdog.took_request()
    assert clock.waits_s == [pytest.approx(2 / num_at_once)]
