"""What the chart calls in its pods exists: the exporter's options, the client's, Triton's flags."""

from __future__ import annotations

import click
import pytest
from mirrorme_client.commands import mirrorme
from mirrorme_export.cli import main as export

from tests.deploy.chart import EVERYTHING, ROOT, containers, pods, render
from tests.deploy.options import OPTIONS

pytestmark = pytest.mark.deploy


def parsed(group: click.Command, arguments: list[str]) -> dict:
    """Parses a command line without running it."""
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), arguments[0])
    assert command is not None
    return command.make_context(arguments[0], arguments[1:]).params


@pytest.fixture(autouse=True)
def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths are those of a pod."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


@pytest.mark.parametrize("option", ["everything", "model exported here", "keda"])
def test_the_exporter_takes_its_arguments(option: str) -> None:
    seen = 0
    for owner, pod in pods(render(OPTIONS[option])):
        for container in containers(pod):
            if container.get("command") == ["mirrorme-export"]:
                params = parsed(export, container["args"])
                seen += 1
                if "l4" in owner:
                    assert (params["precision"], params["cache"]) == ("fp8", "/plans")
                    assert (params["platform"], params["device"]) == ("tensorrt_plan", "gpu")
                if "triton-cpu" in owner:
                    assert (params["platform"], params["device"]) == ("python", "cpu")
                    assert params["cache"] is None
    assert seen


def test_the_check_takes_its_arguments() -> None:
    (test,) = [pod for owner, pod in pods(render(EVERYTHING)) if owner.startswith("Pod ")]
    (container,) = test["spec"]["containers"]
    command = [*container["command"], *container.get("args", [])]
    assert command[0] == "mirrorme"
    here = [argument.replace("/examples/", f"{ROOT}/examples/") for argument in command[1:]]
    params = parsed(mirrorme, here)
    assert params["output"]
    # A container without secrets says nothing of them.
    (plain,) = [pod for owner, pod in pods(render()) if owner.startswith("Pod ")]
    assert not any("secrets" in argument for argument in plain["spec"]["containers"][0]["args"])
