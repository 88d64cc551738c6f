"""Wrong values fail when the chart is rendered, and are named."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, HelmFailure, render

pytestmark = pytest.mark.deploy


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as values of the chart."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


MISSPELT = [
    "gatway.replicas",
    "gateway.replica",
    "gateway.settings.maxSession",
    "gateway.settings.max_sessions",
    "gateway.settings.port",
    "gateway.service.portt",
    "gateway.tls.secret",
    "gateway.tls.certManager.issuer",
    "gateway.autoscaling.targetUtilisation",
    "gateway.resources.limit",
    "gateway.readinessProbe.period",
    "images.gatway",
    "images.gateway.name",
    "model.presets",
    "model.source.pvc.claim",
    "model.source.objectStore.bucket",
    "triton.exitTimeout",
    "poolDefaults.gpu",
    "poolDefaults.plans.precison",
    "engineCache.job.enable",
    "redis.bundled.maxMemory",
    "autoscaling.scaleDown.stabilizationWindowSeconds",
    "route.envoyGateway.timeout",
    "networkPolicy.client",
    "serviceAccount.created",
    "monitoring.rules.runbookUrl",
    "monitoring.podMonitor.enabled",
    "test.enable",
]
WRONG: list[tuple[str, Any]] = [
    ("gateway.replicas", "two"),
    ("gateway.replicas", -1),
    ("gateway.platform", "tensorrt"),
    ("gateway.drainSeconds", "120s"),
    ("gateway.settings.maxSessions", "8"),
    ("gateway.settings.engineTimeoutS", "10s"),
    ("gateway.settings.logFormat", "xml"),
    ("gateway.service.port", 70000),
    ("gateway.autoscaling.targetUtilization", 70),
    ("autoscaling.scaleDown.headroom", "25%"),
    ("gateway.resources.requests.memory", "1 GB"),
    ("gateway.tolerations", {"key": "gpu"}),
    ("gateway.extraEnv", [{"name": "MIRRORME_PORT", "value": "1"}]),
    ("images.gateway.tag", "latest"),
    ("images.gateway.digest", "sha256:12"),
    ("images.pullSecrets", "regcred"),
    ("model.source.type", "s3"),
    ("pools", {"gpu": {}}),
    ("poolDefaults.gpus", "1"),
    ("poolDefaults.platform", "tensorrt"),
    ("poolDefaults.plans.precision", "int8"),
    ("triton.sharedMemory", "1GB"),
    ("engineCache.storage.accessModes", ["ReadWriteSome"]),
    ("redis.mode", True),
    ("autoscaling.kind", "HPA"),
    ("autoscaling.leadSeconds", 1.5),
    ("route.envoyGateway.requestTimeout", 0),
    ("route.hostnames", "avatars.example.com"),
    ("monitoring.rules.enabled", "yes"),
    ("monitoring.podMonitors.interval", "15"),
]


@pytest.mark.parametrize("path", MISSPELT)
def test_misspelt_values_are_named(path: str) -> None:
    with pytest.raises(HelmFailure) as caught:
        render(nested(path, {}))
    misspelt = {
        key for key in path.split(".") if f"property {key} is not allowed" in str(caught.value)
    }
    assert len(misspelt) == 1, caught.value


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{p}={v}" for p, v in WRONG])
def test_values_of_a_wrong_type_are_named(path: str, value: Any) -> None:
    with pytest.raises(HelmFailure) as caught:
        render(nested(path, value))
    assert re.search(rf"- {re.escape(path)}[.:\d]", str(caught.value)), caught.value


def test_misspelt_values_of_a_pool_are_named() -> None:
    pools = [{"name": "a", "streamPerReplica": 3}]
    with pytest.raises(HelmFailure, match=r"pools\.0: Additional property streamPerReplica"):
        render({"gateway": {"platform": "triton"}, "pools": pools})
    with pytest.raises(HelmFailure, match=r"pools\.0: name is required"):
        render({"gateway": {"platform": "triton"}, "pools": [{"gpus": 1}]})


TRITON = {"gateway": {"platform": "triton"}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (TRITON, "pools is empty: give at least one pool"),
        ({"pools": [{"name": "a"}]}, "set gateway.platform to triton"),
        (TRITON | {"pools": [{"name": "a"}, {"name": "a"}]}, "pools: two are named a"),
        (TRITON | {"pools": [{"name": "a"}, {"name": "b"}]}, "add up to 2: want 1"),
        (TRITON | {"pools": [{"name": "a", "gpus": 0}]}, "plans run on GPUs"),
        (TRITON | {"pools": [{"name": "a", "platform": "python"}]}, "runs on CPUs"),
        (
            {"gateway": {"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}},
            "gateway.autoscaling.minReplicas is above maxReplicas",
        ),
        (
            {
                "gateway": {"platform": "triton", "settings": {"maxSessions": 0}},
                "pools": [{"name": "a"}],
            },
            "gateway.settings.maxSessions is 0 with platform triton",
        ),
        ({"gateway": {"autoscaling": {"enabled": True}}}, "set monitoring.rules.enabled"),
        ({"gateway": {"tls": {"enabled": True}}}, "wants gateway.tls.secretName"),
        (
            nested(
                "gateway.tls",
                {"enabled": True, "secretName": "a", "certManager": {"enabled": True}},
            ),
            "wants gateway.tls.certManager.issuerRef.name",
        ),
        (nested("model.source.type", "pvc"), "wants model.source.pvc.claimName"),
        (nested("model.source.type", "objectStore"), "wants model.source.objectStore.remote"),
        (nested("model.source.type", "imageVolume"), "image.repository and digest"),
        ({"redis": {"mode": "existing"}}, "wants redis.existing.secretName"),
        ({"route": {"enabled": True}}, "wants route.parentRefs"),
        (
            {
                "route": {"enabled": True, "parentRefs": [{"name": "a"}]},
                "gateway": {"tls": {"enabled": True, "secretName": "a"}},
            },
            "wants route.backendTls.certificates.name",
        ),
        (
            nested("gateway.auth.tokens.secretName", "a"),
            "give helm test its own by test.secretName",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_do_not_fit_are_named(values: dict, said: str) -> None:
    with pytest.raises(HelmFailure, match=re.escape(said)):
        render(values)


def test_image_volumes_want_their_kubernetes() -> None:
    values = nested("model.source.type", "imageVolume")
    with pytest.raises(HelmFailure, match=r"wants Kubernetes 1.35, this is v1.33"):
        render(values, kube_version="1.33")


def test_every_object_of_the_schema_is_closed() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def open_objects(node: Any, path: str) -> list[str]:
        found = []
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False:
                found.append(path)
            for key, value in node.items():
                found += open_objects(value, f"{path}.{key}")
        return found

    assert open_objects(schema, "") == []


def test_every_value_has_a_default_that_the_schema_knows() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def missing(node: Any, value: Any, path: str) -> list[str]:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        found = []
        for key, child in node.get("properties", {}).items():
            # Settings have the service's own defaults, an image only what it needs.
            if path in (".gateway.settings", ".pools") or (path, key) == ("", "global"):
                continue
            if path.startswith(".images.") or isinstance(value, list):
                continue
            if key not in value:
                found.append(f"{path}.{key}")
            else:
                found += missing(child, value[key], f"{path}.{key}")
        return found

    assert missing(schema, values, "") == []
