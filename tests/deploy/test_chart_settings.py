"""The environment that the chart gives to gateways is one that the gateway understands."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from mirrorme_service.config import ENVIRONMENT_PREFIX, ServiceConfig
from mirrorme_service.main import main

from tests.deploy.chart import CHART, EXAMPLES, Manifest, environment, named, render
from tests.deploy.options import OPTIONS

pytestmark = pytest.mark.deploy

FIELDS = {field.name for field in dataclasses.fields(ServiceConfig)}
SETTINGS = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]["gateway"][
    "properties"
]["settings"]["properties"]


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def gateway_environment(
    manifests: list[Manifest], name: str = "mirrorme-gateway"
) -> dict[str, str]:
    deployment = named(manifests, "Deployment", name)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return environment(container)


def parsed(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceConfig:
    """What the gateway itself makes of an environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return ServiceConfig(**main.make_context("gateway", []).params)


CASES = [(None, option) for option in OPTIONS] + [(example, None) for example in EXAMPLES]


@pytest.mark.parametrize(("example", "option"), CASES)
def test_the_gateway_takes_its_environment(
    monkeypatch: pytest.MonkeyPatch, example: str | None, option: str | None
) -> None:
    manifests = render(OPTIONS.get(option or ""), example=example)
    name = "avatars-gateway" if option == "names" else "mirrorme-gateway"
    variables = gateway_environment(manifests, name)
    ours = {key for key in variables if key.startswith(f"{ENVIRONMENT_PREFIX}_")}
    known = {f"{ENVIRONMENT_PREFIX}_{field.upper()}" for field in FIELDS}
    assert ours <= known
    secret = "redis://from-a-secret:6379/0"
    config = parsed({key: value or secret for key, value in variables.items()}, monkeypatch)
    assert config.host == "0.0.0.0" and config.log_format == "json"


def test_every_setting_is_a_value_or_the_charts_own() -> None:
    own: set[str] = set()
    for option in ("everything", "tls by secret", "redis that is there"):
        variables = gateway_environment(render(OPTIONS[option]))
        own |= {key.removeprefix(f"{ENVIRONMENT_PREFIX}_").lower() for key in variables}
    given = {snake(name) for name in SETTINGS}
    # In-process engines of the chart run on the CPU.
    assert FIELDS - given - own == {"device"}
    assert given <= FIELDS


def test_the_schema_has_the_settings_types() -> None:
    hints = get_type_hints(ServiceConfig, include_extras=True)
    for name, schema in SETTINGS.items():
        kind: Any = get_args(hints[snake(name)])[0]
        if get_origin(kind) is Literal:
            assert schema["enum"] == list(get_args(kind)), name
        else:
            types = {int: "integer", float: "number", bool: "boolean"}
            assert schema["type"] == types.get(kind, "string"), name


def test_settings_arrive_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"maxMessageBytes": 536870912, "maxSessionS": 90.5, "engineTimeoutS": 3}
    variables = gateway_environment(render({"gateway": {"settings": given}}))
    config = parsed(variables, monkeypatch)
    assert config.max_message_bytes == 536870912
    assert (config.max_session_s, config.engine_timeout_s) == (90.5, 3.0)


def test_gateways_look_for_triton_where_its_service_is() -> None:
    manifests = render(OPTIONS["everything"])
    service = named(manifests, "Service", "mirrorme-triton")
    assert service["spec"]["clusterIP"] == "None"
    address = gateway_environment(manifests)["MIRRORME_TRITON_ENDPOINTS"]
    assert address == "dns:///mirrorme-triton.avatars.svc.cluster.local:8001"
