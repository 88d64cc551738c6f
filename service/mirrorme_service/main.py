"""The gateway's program: options and environment to settings, signals, exit codes.

`python -m mirrorme_service` runs it. Arguments and environment are read here and nowhere else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
from mirrorme_engines.errors import EngineError

from mirrorme_service.config import ENVIRONMENT_PREFIX, ConfigError, ServiceConfig
from mirrorme_service.grpc_ports import StartError
from mirrorme_service.log_format import start_logging
from mirrorme_service.server import Server

log = logging.getLogger(__name__)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one option for each field of ServiceConfig."""
    hints = get_type_hints(ServiceConfig, include_extras=True)
    for field in reversed(dataclasses.fields(ServiceConfig)):
        kind, text = get_args(hints[field.name])
        choices = get_args(kind) if get_origin(kind) is Literal else None
        option = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.Choice(choices) if choices else _CLICK_TYPES[kind],
            default=field.default,
            show_default=True,
            envvar=f"{ENVIRONMENT_PREFIX}_{field.name.upper()}",
            show_envvar=True,
            help=text,
        )
        command = option(command)
    return command


_CLICK_TYPES: dict[Any, Any] = {
    int: int,
    float: float,
    str: str,
    Path: click.Path(path_type=Path),
    Path | None: click.Path(path_type=Path),
}


@click.command(context_settings={"max_content_width": 100})
@_with_settings
def main(**settings: Any) -> None:
    """Serve MirrorMe: a portrait and speech in, talking video out, over gRPC.

    Runs until SIGTERM or Ctrl-C; then running sessions may end, and a second signal exits at once.
    Every option can be set in the environment by the name behind it.
    """
    try:
        config = ServiceConfig(**settings)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    start_logging(config.log_format, config.log_level)
    try:
        asyncio.run(serve(config))
    except (StartError, ConfigError, EngineError) as error:
        log.error("cannot start: %s", error)
        sys.exit(1)


async def serve(config: ServiceConfig) -> None:
    """Runs the gateway until it is told to stop.

    Raises:
        StartError, ConfigError, EngineError: it cannot start.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    server = await Server.start(config)
    # What is here to stay is not to be looked through for cycles: that takes a quarter of a second,
    # in which no frame leaves, and the more there is of it the seldomer the rest is looked through.
    gc.collect()
    gc.freeze()
    model = server.model
    log.info(
        "ready: serving on %s:%d%s, metrics on %s:%d, model %s (%s, weights %.12s)",
        config.host,
        server.port,
        " with TLS" if config.tls_files() else "",
        config.host,
        server.metrics_port,
        model.manifest.preset,
        model.platform,
        model.manifest.weights_sha256,
    )
    if (config.tokens or config.jwt_keys) and not config.tls_files():
        log.warning("tokens travel in plaintext, unless something before this port speaks TLS")
    if not model.manifest.trained:
        log.warning("the model's weights are random: the video will not look like anyone")
    await stop.wait()
    log.info(
        "stopping: %d sessions may go on for %g s", server.admission.num_active, config.drain_s
    )
    await server.stop(config.drain_s)
    log.info("stopped")


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT sets the event, the second ends the process."""

    def on_signal(number: int, _frame: types.FrameType | None = None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
