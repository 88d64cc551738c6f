"""`mirrorme portrait`: portraits that the server holds."""

from __future__ import annotations

from pathlib import Path

import click
from mirrorme.animate.v1 import animation_pb2 as pb
from rich.console import Console

from mirrorme_client.commands import async_main
from mirrorme_client.commands.options import (
    Connection,
    consent_option,
    crop_mode,
    crop_option,
    json_option,
    json_text,
    server_options,
)


@click.group(name="portrait")
def command() -> None:
    """Portraits that the server holds."""


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@crop_option
@consent_option
@click.option("--preset", default="", help="Preset to encode for. [default: the server's]")
@server_options
@json_option
def register(
    file: Path,
    crop: str | None,
    consent_token: str,
    preset: str,
    connection: Connection,
    as_json: bool,
) -> None:
    """Encode the picture FILE (PNG, JPEG or WebP) ahead of its first use; print its id.

    `mirrorme animate` takes the id in place of a picture.
    """

    async def call() -> pb.RegisterPortraitResponse:
        async with connection.client() as client:
            return await client.register_portrait(
                file, crop_mode=crop_mode(crop), preset=preset, consent_token=consent_token
            )

    response = async_main.run(call())
    if as_json:
        click.echo(json_text(response))
        return
    portrait = response.portrait
    click.echo(portrait.portrait_id)
    console = Console(stderr=True, highlight=False)
    crop_box, size = portrait.crop, portrait.source_size
    console.print(
        f"{'known already' if response.already_known else 'encoded'}: "
        f"{crop_box.width_px} x {crop_box.height_px} px from ({crop_box.x_px}, {crop_box.y_px}) "
        f"of {size.width_px} x {size.height_px} px"
    )
