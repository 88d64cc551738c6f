"""What an administrator's admission policy would ask of every object, by example and option."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.chart import (
    EXAMPLES,
    Manifest,
    containers,
    environment,
    of_kind,
    pods,
    render,
)
from tests.deploy.options import OPTIONS

pytestmark = pytest.mark.deploy

CASES = [("", option) for option in OPTIONS] + [(example, "") for example in EXAMPLES]


@pytest.fixture(params=CASES, ids=lambda case: case[0] or case[1])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    example, option = request.param
    return render(OPTIONS.get(option), example=example or None)


def findings(manifests: list[Manifest]) -> Iterator[str]:
    for owner, pod in pods(manifests):
        spec = pod["spec"]
        security = spec.get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser"):
            yield f"{owner} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{owner} has no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{owner} is given a token of the cluster"
        if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{owner} shares namespaces with its host"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{owner} mounts a folder of its host"
        mounted = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", [])}
        if mounted != {volume["name"] for volume in spec.get("volumes", [])}:
            yield f"{owner} has volumes that nobody mounts, or mounts without a volume"
        for container in containers(pod):
            yield from _of_container(f"{owner} {container['name']}", container)
        if owner.startswith("Deployment"):
            for container in spec["containers"]:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if probe not in container:
                        yield f"{owner} {container['name']} has no {probe}"


def _of_container(name: str, container: Manifest) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if not security.get("readOnlyRootFilesystem"):
        yield f"{name} may write its image"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{name} has capabilities"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield f"{name} requests no CPU or memory"
    if "memory" not in resources.get("limits", {}):
        yield f"{name} has no limit of memory"
    image = container["image"]
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"{name} has no fixed image: {image}"
    for variable, value in environment(container).items():
        if (
            value
            and "$(" not in value
            and any(word in variable for word in ("PASSWORD", "SECRET", "_URL"))
        ):
            yield f"{name} has {variable} in plain text"


def test_policy_finds_nothing(manifests: list[Manifest]) -> None:
    assert list(findings(manifests)) == []


def test_policy_finds_what_is_wrong() -> None:
    manifests = render()
    pod = pods(manifests)[0][1]["spec"]
    pod["securityContext"] = {}
    pod["containers"][0] |= {"image": "a/b", "resources": {}, "securityContext": {}}
    del pod["containers"][0]["livenessProbe"]
    assert len(list(findings(manifests))) == 9


def test_every_selector_finds_its_pods(manifests: list[Manifest]) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(manifests)]
    for manifest in of_kind(
        manifests, "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"
    ):
        spec = manifest["spec"]
        match manifest["kind"]:
            case "Service":
                wanted = spec["selector"]
            case "NetworkPolicy":
                wanted = spec["podSelector"]["matchLabels"]
            case _:
                wanted = spec["selector"]["matchLabels"]
        assert any(wanted.items() <= has.items() for has in labels), manifest["metadata"]["name"]


def test_every_server_has_a_network_policy_and_a_disruption_budget(
    manifests: list[Manifest], request: pytest.FixtureRequest
) -> None:
    if "little" in request.node.callspec.id:
        pytest.skip("both are switched off")
    for manifest in of_kind(manifests, "Deployment"):
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        policies = [p["spec"]["podSelector"] for p in of_kind(manifests, "NetworkPolicy")]
        assert any(p["matchLabels"].items() <= labels.items() for p in policies)
        budgets = [b["spec"]["selector"] for b in of_kind(manifests, "PodDisruptionBudget")]
        # One Redis cannot be there while it is moved.
        if labels["app.kubernetes.io/component"] != "redis":
            assert any(b["matchLabels"].items() <= labels.items() for b in budgets)


def test_the_grace_of_pods_fits_what_they_do_at_their_end(manifests: list[Manifest]) -> None:
    for manifest in of_kind(manifests, "Deployment"):
        spec = manifest["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pre_stop_s = 0.0
        if lifecycle := container.get("lifecycle"):
            pre_stop_s = float(lifecycle["preStop"]["exec"]["command"][1])
        drain_s = float(environment(container).get("MIRRORME_DRAIN_S", 0))
        for argument in container.get("args", []):
            if argument.startswith("--exit-timeout-secs="):
                drain_s = float(argument.partition("=")[2])
        assert spec["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + 10
