"""The chart with each example and option: lint, and the schemas of three Kubernetes versions."""

from __future__ import annotations

import functools
import json
import subprocess
from collections import Counter
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart import CHART, EVERYTHING, EXAMPLES, ROOT, helm, named, of_kind, render
from tests.deploy.options import OPTIONS

pytestmark = pytest.mark.deploy

KUBE_VERSIONS = ("1.29", "1.33", "1.35")
# Kinds of operators, whose schemas Kubernetes itself does not know.
OTHERS = {
    "BackendTLSPolicy",
    "BackendTrafficPolicy",
    "Certificate",
    "GRPCRoute",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
}


@functools.cache
def validate(manifest: str, kube_version: str) -> None:
    """Options share most objects; each is looked at once."""
    kubernetes_validate.validate(json.loads(manifest), kube_version, strict=True)


def check(manifests, kube_version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in OTHERS:
            validate(json.dumps(manifest), kube_version)
    counts = Counter((m["kind"], m["metadata"]["name"]) for m in manifests)
    assert max(counts.values()) == 1, counts


@pytest.mark.parametrize("kube_version", KUBE_VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str, kube_version: str) -> None:
    check(render(example=example, kube_version=kube_version), kube_version)


@pytest.mark.parametrize("kube_version", KUBE_VERSIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_valid(option: str, kube_version: str) -> None:
    if "image volume" in option and kube_version != "1.35":
        pytest.skip("image volumes want 1.35; test_chart_values tests the refusal")
    # What is rendered depends on the version for image volumes alone.
    check(render(OPTIONS[option]), kube_version)


def operators_say(manifests) -> dict[str, str]:
    """What the operators' own schemas say of each kind that is theirs; nothing if it is right."""
    file = Path(__file__).with_name("operator_kinds.mjs")
    result = subprocess.run(
        ["node", file, ROOT / ".cluster-tools/kinds/node_modules"],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("option", ["everything", "keda", "route without envoy"])
def test_kinds_of_operators_are_valid(option: str) -> None:
    manifests = [m for m in render(OPTIONS[option]) if m["kind"] in OTHERS]
    said = operators_say(manifests)
    assert said == dict.fromkeys((m["kind"] for m in manifests), "")
    assert said
    manifests[0]["spec"] = 1
    assert operators_say(manifests)[manifests[0]["kind"]]


def test_the_check_itself_refuses_what_kubernetes_does_not_know() -> None:
    (service,) = of_kind(render(), "Service")
    service["spec"]["portz"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="portz"):
        check([service], "1.29")


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_finds_nothing(example: str) -> None:
    said = helm("lint", "--strict", CHART, "--values", EXAMPLES[example])
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert "WARNING" not in said and "ERROR" not in said


def test_pools_differ_in_gpus_and_plans() -> None:
    manifests = render(example="multi-pool")
    for pool, products, precision in (
        ("h100", ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-NVL"], "fp8"),
        ("l40s", ["NVIDIA-L40S"], "fp16"),
    ):
        pod = named(manifests, "Deployment", f"mirrorme-triton-{pool}")["spec"]["template"]["spec"]
        affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (expression,) = affinity["nodeSelectorTerms"][0]["matchExpressions"]
        assert (expression["key"], expression["values"]) == ("nvidia.com/gpu.product", products)
        (build,) = [c for c in pod["initContainers"] if c["name"] == "repository"]
        assert f"--precision={precision}" in build["args"]
        assert build["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_new_image_is_a_new_job_and_a_new_chart_version_restarts_nothing() -> None:
    values = {"gateway": {"platform": "triton"}, "pools": [{"name": "gpu"}]}

    def names(more: dict) -> set[str]:
        return {m["metadata"]["name"] for m in of_kind(render(values | more), "Job")}

    assert names({}) == names({})
    assert names({}) != names({"images": {"builder": {"tag": "2"}}})
    for manifest in of_kind(render(values), "Deployment"):
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_replicas_are_left_to_the_autoscaler() -> None:
    manifests = render(EVERYTHING)
    assert "replicas" not in named(manifests, "Deployment", "mirrorme-gateway")["spec"]
    assert "replicas" not in named(manifests, "Deployment", "mirrorme-triton-l4")["spec"]
    assert named(manifests, "Deployment", "mirrorme-triton-cpu")["spec"]["replicas"] == 1


def test_the_dashboard_is_the_file() -> None:
    config = named(render(EVERYTHING), "ConfigMap", "mirrorme-dashboard")
    file = CHART / "files/dashboard.json"
    assert json.loads(config["data"]["mirrorme.json"]) == json.loads(file.read_text())


def test_the_adapter_knows_the_metrics_of_autoscalers() -> None:
    adapter = yaml.safe_load((CHART / "files/adapter-rules.yaml").read_text())
    known = {rule["name"]["as"] for rule in adapter["rules"]["external"]}
    scalers = of_kind(render(EVERYTHING), "HorizontalPodAutoscaler")
    asked = {
        metric["external"]["metric"]["name"]
        for scaler in scalers
        for metric in scaler["spec"]["metrics"]
    }
    assert asked == known
