"""`mirrorme bench`: plays live conversations against an endpoint and reports how they went."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from mirrorme.animate.v1 import animation_pb2 as pb
from rich.console import Console
from rich.table import Table

from mirrorme_client.bench import load
from mirrorme_client.bench.caller import CallPlan
from mirrorme_client.bench.figures import Figures, Objective, Spread
from mirrorme_client.bench.load import Run, largest
from mirrorme_client.bench.plot import write_plot
from mirrorme_client.bench.talk import TalkStyle
from mirrorme_client.bench.voice import Voice
from mirrorme_client.commands import async_main
from mirrorme_client.commands.options import (
    FRAME_ENCODINGS,
    PACINGS,
    Connection,
    crop_mode,
    crop_option,
    json_option,
    server_options,
)

_OBJECTIVE = Objective()


@click.command(name="bench")
@click.argument("portrait", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@server_options
@click.option(
    "-n", "--sessions", type=click.IntRange(1), default=1, show_default=True, help="At once."
)
@click.option(
    "--find-largest",
    is_flag=True,
    help="Search the most sessions that hold the objective, up to --sessions or the server's "
    "capacity.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Length of each session.",
)
@click.option(
    "--pacing",
    type=click.Choice(list(PACINGS)),
    help="Who keeps the clock: the server (real-time), or this client, which then sends silence "
    "in pauses and never interrupts (fast). [default: real-time, if the server has it]",
)
@click.option(
    "--speech",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Audio file to speak from. [default: a made-up voice]",
)
@click.option(
    "--ahead",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Send speech so far ahead of the clock, as a synthesiser does.",
)
@click.option(
    "--cut",
    type=click.FloatRange(0, 1),
    default=TalkStyle.cut_share,
    show_default=True,
    help="Share of the spurts that end by an interrupt.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the talks.")
@click.option("--encoding", type=click.Choice(list(FRAME_ENCODINGS)), default="jpeg")
@crop_option
@click.option(
    "--first-frame-ms",
    type=float,
    default=_OBJECTIVE.first_frame_p95_ms,
    show_default=True,
    help="Objective: 95 % of the utterances show so soon beyond the algorithmic latency.",
)
@click.option(
    "--jitter-ms",
    type=float,
    default=_OBJECTIVE.jitter_p99_ms,
    show_default=True,
    help="Objective: 99 % of the frames are so even.",
)
@click.option(
    "--barge-in-ms",
    type=float,
    default=_OBJECTIVE.barge_in_p99_ms,
    show_default=True,
    help="Objective: 99 % of the interrupts take effect so soon.",
)
@click.option(
    "--late-share",
    type=click.FloatRange(0, 1),
    default=_OBJECTIVE.max_late_share,
    show_default=True,
    help="Objective: no more of the frames are late by a frame.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the distributions as a PNG, SVG or PDF; needs mirrorme[bench].",
)
@json_option
def command(
    portrait: Path,
    connection: Connection,
    sessions: int,
    find_largest: bool,
    seconds: float,
    pacing: str | None,
    speech: Path | None,
    ahead: float,
    cut: float,
    seed: int,
    encoding: str,
    crop: str | None,
    first_frame_ms: float,
    jitter_ms: float,
    barge_in_ms: float,
    late_share: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Play live conversations with the picture PORTRAIT and report how they went.

    Each session talks in spurts with pauses, in real time, and cuts some spurts off. Reported are
    the first frame of each utterance, the jitter and the lateness of frames, how soon an interrupt
    takes effect, and the offset between audio and video.
    """
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'mirrorme[bench]'")
    objective = Objective(
        first_frame_p95_ms=first_frame_ms,
        jitter_p99_ms=jitter_ms,
        barge_in_p99_ms=barge_in_ms,
        max_late_share=late_share,
    )
    style = TalkStyle(cut_share=cut)
    voice = Voice.of_file(speech) if speech is not None else Voice.made_up()
    console = Console(stderr=True, highlight=False)

    async def work() -> tuple[pb.GetCapabilitiesResponse, pb.Pacing, list[Run]]:
        async with connection.client() as client:
            capabilities = await client.capabilities()
            chosen = _pacing(pacing, capabilities)
            registered = await client.register_portrait(portrait, crop_mode=crop_mode(crop))
            plan = CallPlan(
                portrait=registered.portrait,
                voice=voice,
                talk=(),
                seconds=seconds,
                output=pb.OutputFormat(encoding=FRAME_ENCODINGS[encoding]),
                pacing=chosen,
                seed=seed,
                max_ahead_s=ahead,
            )

            async def measure(num_sessions: int) -> Figures:
                console.print(f"{num_sessions} sessions for {seconds:g} s")
                return await load.run_load(client, plan, style, num_sessions)

            if find_largest:
                most = capabilities.limits.max_sessions
                most = sessions if sessions > 1 else most
                return capabilities, chosen, await load.find_largest(measure, objective, most)
            figures = await measure(sessions)
            return capabilities, chosen, [Run(figures, tuple(objective.broken_by(figures)))]

    capabilities, chosen, runs = async_main.run(work())
    if plot is not None:
        write_plot(plot, runs, objective)
    if as_json:
        conditions = {
            "target": connection.server,
            "pacing": pb.Pacing.Name(chosen).removeprefix("PACING_").lower(),
            "seconds": seconds,
            "ahead_s": ahead,
            "cut_share": cut,
            "seed": seed,
            "encoding": encoding,
        }
        click.echo(json.dumps(_report(capabilities, conditions, runs), indent=2))
    else:
        _print(runs, is_search=find_largest)


def _pacing(wanted: str | None, capabilities: pb.GetCapabilitiesResponse) -> pb.Pacing:
    if wanted is not None:
        return PACINGS[wanted]
    is_served = pb.PACING_REAL_TIME in capabilities.pacings
    return pb.PACING_REAL_TIME if is_served else pb.PACING_AS_FAST_AS_POSSIBLE


def _report(
    capabilities: pb.GetCapabilitiesResponse, conditions: dict[str, Any], runs: list[Run]
) -> dict[str, Any]:
    model = capabilities.presets[0].model
    return {
        "server": MessageToDict(
            model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ),
        "conditions": conditions,
        "runs": [{"broken": list(run.broken), **run.figures.as_dict()} for run in runs],
        "largest_num_sessions": largest(runs),
    }


def _print(runs: list[Run], *, is_search: bool) -> None:
    console = Console(highlight=False)
    for run in runs:
        figures = run.figures
        table = Table(
            title=f"{figures.num_sessions} sessions, {figures.num_frames} frames",
            title_justify="left",
        )
        for column in ("ms", "number", "p50", "p95", "p99", "largest"):
            table.add_column(column, justify="left" if column == "ms" else "right")
        for name, spread in (
            ("first frame", figures.first_frame_ms),
            ("jitter", figures.jitter_ms),
            ("lateness", figures.lateness_ms),
            ("barge-in", figures.barge_in_ms),
            ("A/V offset", figures.av_offset_ms),
            ("drift", figures.drift_ms),
            ("this client's lag", figures.client_lag_ms),
        ):
            table.add_row(name, *_cells(spread))
        console.print(table)
        console.print(
            f"late frames: {100 * figures.late_share:.2f} %, "
            f"with {figures.num_left_out_frames} left out to stay on time"
        )
        for reason in run.broken:
            console.print(f"[yellow]not held:[/] {reason}")
    if is_search:
        console.print(f"largest number of sessions that holds: {largest(runs)}")


def _cells(spread: Spread) -> list[str]:
    values = [spread.percentile(percent) for percent in (50, 95, 99)]
    return [
        str(len(spread.values)),
        *("-" if value is None else f"{value:.1f}" for value in (*values, spread.largest)),
    ]
