"""Dockerfiles and compose files: linted, and what they name is there. No image is built here."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from mirrorme_export.cli import main as export
from mirrorme_service.config import ServiceConfig

from tests.deploy.chart import CHART, ROOT

pytestmark = pytest.mark.deploy

DOCKER = ROOT / "deploy/docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    binary = Path(sys.executable).with_name("hadolint")
    return subprocess.run([binary, file], capture_output=True, text=True)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing(file: Path) -> None:
    result = hadolint(file)
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:latest\nRUN apt-get install -y curl\n")
    result = hadolint(file)
    assert result.returncode != 0 and "DL3007" in result.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_images_are_pinned_and_not_of_root(file: Path) -> None:
    text = file.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        named = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], image)
        assert re.search(r":\d+\.\d+", named), named
    user = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert len(user) == 1 and "0" not in user[0]
    assert text.rindex("USER ") > text.rindex("RUN ")
    assert len(re.findall(r"^HEALTHCHECK ", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_onnx_runtime_reports_to_nobody(file: Path) -> None:
    final = file.read_text().rpartition("\nFROM ")[2]
    assert "ORT_DISABLE_TELEMETRY=1" in final


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_what_is_copied_is_there(file: Path) -> None:
    for line in re.findall(r"^COPY (.+)$", file.read_text(), re.MULTILINE):
        if line.startswith("--from"):
            continue
        for source in line.split()[:-1]:
            # A pattern may find nothing.
            assert "[" in source or (ROOT / source).exists(), source


def test_triton_and_builder_are_of_one_release() -> None:
    releases = {
        re.findall(r"^ARG RELEASE=(\S+)", (DOCKER / f"{name}.Dockerfile").read_text(), re.M)[0]
        for name in ("triton", "builder")
    }
    assert len(releases) == 1


def test_gateways_install_no_torch() -> None:
    final = (DOCKER / "gateway.Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"COPY --from=(\w+) (\S+)", final) == [
        ("packages", "/opt/mirrorme"),
        ("models", "/models"),
    ]
    extras = re.findall(r"'/source\[(.+)\]'", (DOCKER / "gateway.Dockerfile").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [name for e in extras[0].split(",") for name in project["optional-dependencies"][e]]
    assert needed and not any(name.startswith(("torch", "transformers")) for name in needed)


def test_all_images_have_the_charts_version_and_names() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION
    values = yaml.safe_load((CHART / "values.yaml").read_text())["images"]
    ours = {values[name]["repository"] for name in ("gateway", "triton", "builder", "export")}
    assert ours == {f"mirrorme/{file.stem}" for file in DOCKERFILES}
    bake = (DOCKER / "docker-bake.hcl").read_text()
    assert f'variable "TAG" {{ default = "{VERSION}" }}' in bake
    assert set(re.findall(r'deploy/docker/(\w+)\.Dockerfile"', bake)) == {
        file.stem for file in DOCKERFILES
    }


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_compose_files_name_what_there_is(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    services = document["services"]
    settings = {f"MIRRORME_{field.name.upper()}" for field in dataclasses.fields(ServiceConfig)}
    built = {s["image"] for s in services.values() if "build" in s}
    for name, service in services.items():
        assert service["image"].endswith(f":{VERSION}") and service["image"] in built
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"]
        assert set(service.get("environment", {})) <= settings, name
        assert set(service.get("depends_on", {})) <= set(services)
        if build := service.get("build"):
            assert (file.parent / build["context"] / build["dockerfile"]).exists()
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in document["volumes"]
        # Ports are open to this machine alone: there is no login.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_calls_the_exporter_rightly(tmp_path: Path) -> None:
    services = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    arguments = [
        a.replace("/models/demo", str(tmp_path)) for a in services["repository"]["command"]
    ]
    result = CliRunner().invoke(export, arguments)
    # It got as far as the folder, which holds no export.
    assert "manifest.json" in result.output, result.output


def test_docker_itself_when_it_is_here() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no Docker Compose here: these files are checked by structure alone")
    for file in COMPOSE:
        subprocess.run([docker, "compose", "-f", file, "config", "--quiet"], check=True)
