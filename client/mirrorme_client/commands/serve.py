"""`mirrorme serve`: becomes the gateway process."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

# What the gateway cannot do without; named, not imported: the client knows nothing of it.
_NEEDED = ("mirrorme_service", "grpc_health", "prometheus_client", "simplejpeg")


@click.command(
    name="serve",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run the server. `mirrorme serve --help` lists its options."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the service is not installed (no {', '.join(missing)}): "
            "pip install 'mirrorme[service]'"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "mirrorme_service", *arguments])
