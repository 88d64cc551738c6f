"""The Helm chart, rendered by the real Helm."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/mirrorme"
HELM = ROOT / ".cluster-tools/helm"
EXAMPLES = {path.stem: path for path in sorted((CHART / "examples").glob("*.yaml"))}
NAMESPACE = "avatars"
RELEASE = "mirrorme"
DEFAULT_KUBE_VERSION = "1.35"

Manifest = dict[str, Any]

# A chart with all of its parts, as far as they can be had at once.
EVERYTHING: dict[str, Any] = {
    "gateway": {
        "platform": "triton",
        "autoscaling": {"enabled": True},
        "tls": {
            "enabled": True,
            "secretName": "tls",
            "requireClientCertificate": True,
            "certManager": {"enabled": True, "issuerRef": {"name": "issuer"}},
            "clientNames": ["agent", "web"],
        },
        "auth": {
            "tokens": {"secretName": "tokens"},
            "jwt": {"secretName": "jwt"},
            "consent": {"secretName": "consent"},
        },
    },
    "pools": [
        {
            "name": "l4",
            "gpuProducts": ["NVIDIA-L4"],
            "share": 0.4,
            "plans": {"precision": "fp8"},
            "autoscaling": {"enabled": True},
        },
        {
            "name": "onnx",
            "platform": "onnxruntime_onnx",
            "share": 0.35,
            "runtimeClassName": "nvidia",
        },
        {"name": "cpu", "platform": "python", "gpus": 0, "share": 0.25},
    ],
    "model": {"source": {"type": "export"}},
    "redis": {"mode": "bundled"},
    "test": {"secretName": "test"},
    "route": {
        "enabled": True,
        "parentRefs": [{"name": "public"}],
        "backendTls": {"certificates": {"name": "ca"}},
    },
    "monitoring": {
        "podMonitors": {"enabled": True},
        "rules": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}


class HelmFailure(Exception):
    """Helm refused; the message is its own."""


def helm(*arguments: str | Path, given: str = "") -> str:
    """Runs Helm and returns what it printed."""
    assert HELM.exists(), "run `make test-deploy`, which installs Helm"
    result = subprocess.run([HELM, *arguments], input=given, capture_output=True, text=True)
    if result.returncode:
        raise HelmFailure(result.stderr + result.stdout)
    return result.stdout


def render(
    values: dict[str, Any] | None = None,
    *,
    example: str | None = None,
    kube_version: str = DEFAULT_KUBE_VERSION,
) -> list[Manifest]:
    """All objects of an installation, the test's pod included."""
    return json.loads(_rendered(json.dumps(values or {}), example, kube_version))


@functools.cache
def _rendered(values: str, example: str | None, kube_version: str) -> str:
    arguments: list[str | Path] = ["template", RELEASE, CHART, "--namespace", NAMESPACE]
    arguments += ["--kube-version", kube_version]
    if example is not None:
        arguments += ["--values", EXAMPLES[example]]
    # JSON is YAML.
    text = helm(*arguments, "--values", "-", given=values)
    documents = yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return json.dumps([document for document in documents if document])


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Metadata and spec of all pods, by the name of what makes them."""
    found = []
    for manifest in of_kind(manifests, "Deployment", "Job", "Pod"):
        pod = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
        found.append((f"{manifest['kind']} {manifest['metadata']['name']}", pod))
    return found


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    """Variables with values of their own."""
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
