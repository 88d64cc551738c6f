"""`report.html`: what was kept, and why the rest was dropped, to look at without a server."""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from mirrorme_training.footage.clip_shards import write_whole
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.verdicts import SENTENCES, Verdict
from mirrorme_training.motion_noise import FRAME_RATE

REPORT_NAME = "report.html"
_FRAMING_NAMES = {"close_up": "close-up", "half_body": "half body"}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --kept: #2a9d5c; --lost: #c8553d }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
table { border-collapse: collapse; margin: .6rem 0 } td, th { padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid var(--line); text-align: left; font-weight: normal }
th { opacity: .7 } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { display: inline-block; height: .6rem; background: var(--lost); border-radius: 2px }
.bar.k { background: var(--kept) }
ul { list-style: none; padding: 0; display: grid; gap: .8rem; margin: .5rem 0;
  grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)) }
li { border-left: 4px solid var(--lost); background: var(--soft); padding: .5rem .7rem;
  border-radius: 4px; overflow-wrap: anywhere } li.k { border-color: var(--kept);
  grid-column: 1 / -1 }
img { display: block; max-width: 100%; max-height: 120px; border-radius: 3px; margin-bottom: .3rem }
small { opacity: .75 } .error { color: var(--lost) } details { margin: .4rem 0 }
"""


def write_report(folder: Path, stories: list[dict[str, Any]], config: FootageConfig) -> None:
    """Writes the page from what became of the videos."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width">',
        f"<title>Footage</title><style>{_STYLE}</style>",
        "<h1>Footage</h1>",
        _summary(stories, config),
        _reasons(stories, config),
        _videos(stories),
        *(_video(story) for story in stories),
    ]
    write_whole(folder / REPORT_NAME, "\n".join(parts).encode())


def _summary(stories: list[dict[str, Any]], config: FootageConfig) -> str:
    clips = [clip for story in stories for clip in story["clips"]]
    seconds = sum(story["seconds"] for story in stories)
    unusable = sum(1 for story in stories if story["error"])
    bad = f" {unusable} could not be used." if unusable else ""
    return (
        f"<p>{len(stories)} videos, {_time(seconds)}.{bad} "
        f"{len(clips)} clips of {config.size_px} by {config.size_px} pixels were kept, "
        f"{_time(_kept_s(clips))} in all. Each framing makes clips of its own from the same "
        "footage, so a moment may be kept twice.</p>"
    )


def _reasons(stories: list[dict[str, Any]], config: FootageConfig) -> str:
    total = sum(story["seconds"] for story in stories) or 1.0
    head = "".join(f"<th class=n>{_FRAMING_NAMES[f]}<th>" for f in config.framings)
    rows = [f"<tr><th>what became of it{head}"]
    for verdict in Verdict:
        cells, some = [], False
        for framing in config.framings:
            seconds, pieces = _share(stories, framing, verdict)
            some |= pieces > 0
            kind = " k" if verdict == Verdict.KEPT else ""
            cells.append(
                f"<td class=n>{seconds:.1f} s in {pieces}"
                f"<td><span class='bar{kind}' style='width:{160 * seconds / total:.0f}px'></span>"
            )
        if some:
            name = "kept" if verdict == Verdict.KEPT else SENTENCES[verdict]
            rows.append(f"<tr><td>{escape(name)}{''.join(cells)}")
    return f"<h2>Reasons</h2><table>{''.join(rows)}</table>"


def _share(stories: list[dict[str, Any]], framing: str, verdict: Verdict) -> tuple[float, int]:
    """Seconds and pieces."""
    if verdict == Verdict.KEPT:
        clips = [c for story in stories for c in story["clips"] if c["framing"] == framing]
        return _kept_s(clips), len(clips)
    pieces = [
        piece["stop_s"] - piece["start_s"]
        for story in stories
        for piece in story["dropped"]
        if piece["framing"] == framing and piece["verdict"] == verdict.name.lower()
    ]
    return sum(pieces), len(pieces)


def _videos(stories: list[dict[str, Any]]) -> str:
    rows = ["<tr><th>video<th class=n>length<th class=n>clips<th>dropped for, or error"]
    for story in stories:
        counts: Counter[str] = Counter()
        for piece in story["dropped"]:
            counts[piece["verdict"]] += piece["stop_s"] - piece["start_s"]
        why = ", ".join(SENTENCES[Verdict[name.upper()]] for name, _ in counts.most_common(2))
        if story["error"]:
            why = f"<span class=error>{escape(story['error'])}</span>"
        rows.append(
            f"<tr><td><a href='#{story['id']}'>{escape(story['name'])}</a>"
            f"<td class=n>{_time(story['seconds'])}<td class=n>{len(story['clips'])}<td>{why}"
        )
    return f"<h2>Videos</h2><table>{''.join(rows)}</table>"


def _video(story: dict[str, Any]) -> str:
    kept = "".join(_kept(clip) for clip in story["clips"])
    shown = [piece for piece in story["dropped"] if piece["picture"]]
    lost = "".join(_lost(piece) for piece in shown)
    hidden = len(story["dropped"]) - len(shown)
    more = f"<p><small>and {hidden} moments under half a second</small>" if hidden else ""
    notes = "".join(f"<p class=error>{escape(note)}" for note in story["notes"])
    error = f"<p class=error>{escape(story['error'])}" if story["error"] else ""
    return (
        f"<h2 id='{story['id']}'>{escape(story['name'])}</h2>{error}{notes}"
        f"<ul>{kept}</ul><ul>{lost}</ul>{more}"
    )


def _kept(clip: dict[str, Any]) -> str:
    start = clip["first_frame"] / FRAME_RATE
    lag_ms = clip["sync_lag_frames"] * 1000 / FRAME_RATE
    return (
        f"<li class=k><img loading=lazy src='report/{clip['picture']}' alt=''>"
        f"<b>{_FRAMING_NAMES[clip['framing']]}</b>, "
        f"{_span(start, start + clip['num_frames'] / FRAME_RATE)} "
        f"<small>· speech {clip['speech']:.0%} · mouth and voice r {clip['sync_r']:.2f} "
        f"({clip['sync_height']:.1f} deviations) at {lag_ms:+.0f} ms · "
        f"voice {clip['voice_db']:.0f} dB · sharpness {clip['sharpness']:.3f} · "
        f"hands {clip['hands']:.0%} · {clip['crop_px'][2]} px of the source</small>"
    )


def _lost(piece: dict[str, Any]) -> str:
    verdict = Verdict[piece["verdict"].upper()]
    detail = f" <small>({escape(piece['detail'])})</small>" if piece["detail"] else ""
    return (
        f"<li><img loading=lazy src='report/{piece['picture']}' alt=''>"
        f"{escape(SENTENCES[verdict])}{detail}<br>"
        f"<small>{_FRAMING_NAMES[piece['framing']]}, "
        f"{_span(piece['start_s'], piece['stop_s'])}</small>"
    )


def _kept_s(clips: list[dict[str, Any]]) -> float:
    return sum(clip["num_frames"] for clip in clips) / FRAME_RATE


def _span(start_s: float, stop_s: float) -> str:
    return f"{_time(start_s)} to {_time(stop_s)}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:.1f} s" if minutes else f"{rest:.1f} s"
