"""The `mirrorme` command and its subcommands, each imported when it is used."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on use.

    So `mirrorme serve` runs where only the service is installed, and `--help` is quick.
    """

    modules: ClassVar[dict[str, str]] = {
        "animate": "animate",
        "portrait": "portrait",
        "info": "server_info",
        "bench": "bench",
        "contact-sheet": "contact_sheet",
        "serve": "serve",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a module is its attribute `command`."""
        if cmd_name not in self.modules:
            return None
        return importlib.import_module(f"{__name__}.{self.modules[cmd_name]}").command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("mirrorme"), prog_name="mirrorme")
def mirrorme() -> None:
    """MirrorMe: a portrait and speech in, talking video out.

    Start a server with `mirrorme serve`, then `mirrorme animate portrait.png speech.wav -o
    out.mp4`.
    """
