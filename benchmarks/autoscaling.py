"""The chart's autoscaling over a load that rises and falls: replicas, and what was missed.

The chart is rendered by Helm. Its own recording rules are evaluated by a real Prometheus over
recorded sessions, and its own HorizontalPodAutoscalers decide as Kubernetes' controller does
(`autoscaler.py`). A pod serves `leadSeconds` after it is asked for. Writes
`benchmarks/results/autoscaling.json` and `.png`.

    python benchmarks/autoscaling.py
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from autoscaler import SYNC_PERIOD_S, Autoscaler
from numpy.typing import NDArray
from session_load import Sessions, draw_sessions, rise_and_fall

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/mirrorme"
HELM = ROOT / ".cluster-tools/helm"
RESULTS = ROOT / "benchmarks/results"
PORT = 19390
# The first hour warms up; a day's shape in eight hours.
UNTIL_S = 8 * 3600.0
LOADS = {
    "steady rise": rise_and_fall(20, 240, 2.0 * 3600, 1.5 * 3600, 2.0 * 3600, 3600),
    "steep rise": rise_and_fall(20, 240, 0.5 * 3600, 2.0 * 3600, 0.5 * 3600, 3600),
}
WARM_UP_S = 3600.0
NUM_SEEDS = 5
EXPECTED = "mirrorme:sessions_expected:sum"
MEAN_SESSION_S = 420.0
CARRIES = {"mirrorme-gateway": 16, "mirrorme-triton-gpu": 8}
VALUES = {
    "gateway": {
        "platform": "triton",
        "settings": {"maxSessions": 16},
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 60, "spareSessions": 8},
    },
    "pools": [
        {
            "name": "gpu",
            "streamsPerReplica": 8,
            "autoscaling": {
                "enabled": True,
                "minReplicas": 2,
                "maxReplicas": 80,
                "spareReplicas": 1,
            },
        }
    ],
    "monitoring": {"rules": {"enabled": True}},
}


@dataclass(frozen=True)
class Outcome:
    """One Deployment under one load."""

    seed: int
    load: str
    deployment: str
    peak_sessions: int
    peak_replicas: int
    sessions_without_capacity_s: float
    """Of all session-seconds after the warm-up, those beyond what ready pods carry."""
    seconds_short: float
    direction_changes: int
    """One rise and one fall change direction once."""
    pod_hours: float
    pod_hours_of_a_fixed_fleet: float


def main() -> None:
    """Runs all loads and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first of five")
    first = parser.parse_args().seed
    manifests = render()
    lead_s = yaml.safe_load((CHART / "values.yaml").read_text())["autoscaling"]["leadSeconds"]
    outcomes, curves = [], {}
    for seed in range(first, first + NUM_SEEDS):
        for load, wanted in LOADS.items():
            sessions = draw_sessions(seed, UNTIL_S, wanted, mean_length_s=MEAN_SESSION_S)
            times_s, wishes = recorded_loads(manifests, sessions)
            active = sessions.active(times_s)
            for deployment, carries in CARRIES.items():
                replicas = replay(manifests[deployment], times_s, wishes[deployment])
                carried = _ready(replicas, lead_s) * carries
                outcomes.append(judge(seed, load, deployment, times_s, active, replicas, carried))
                curves.setdefault((load, deployment), (times_s, active, replicas, carried))
    document = {
        "made_by": "benchmarks/autoscaling.py",
        "assumed": {
            "streams_a_server": CARRIES["mirrorme-triton-gpu"],
            "places_a_gateway": CARRIES["mirrorme-gateway"],
            "seconds_until_a_pod_serves": lead_s,
            "mean_session_s": MEAN_SESSION_S,
        },
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (RESULTS / "autoscaling.json").write_text(json.dumps(document, indent=2) + "\n")
    plot(curves, RESULTS / "autoscaling.png")
    for outcome in outcomes:
        print(outcome)


def render() -> dict[str, Any]:
    """Autoscalers by name, and the rules as `rules`."""
    command = [HELM, "template", "mirrorme", CHART, "--namespace", "avatars", "--values", "-"]
    text = subprocess.run(
        command, input=json.dumps(VALUES), capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, Any] = {}
    for document in yaml.safe_load_all(text):
        if document and document["kind"] == "HorizontalPodAutoscaler":
            found[document["metadata"]["name"]] = document
        if document and document["kind"] == "PrometheusRule":
            rules = [rule for group in document["spec"]["groups"] for rule in group["rules"]]
            found["rules"] = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    return found


def recorded_loads(
    manifests: dict[str, Any], sessions: Sessions
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """What autoscalers would have read every 15 seconds, from a Prometheus with these sessions."""
    times_s = np.arange(0.0, UNTIL_S, SYNC_PERIOD_S)
    labels = '{namespace="avatars",release="mirrorme"}'
    base_s = (int(time.time()) - int(UNTIL_S) - 7200) // 15 * 15
    active = sessions.active(times_s)
    lines = ["# TYPE mirrorme:sessions_active:sum gauge"]
    lines += [
        f"mirrorme:sessions_active:sum{labels} {count} {base_s + at_s:.0f}"
        for at_s, count in zip(times_s, active, strict=True)
    ]
    lines.append("# TYPE mirrorme:sessions_capacity:avg gauge")
    lines += [f"mirrorme:sessions_capacity:avg{labels} 16 {base_s + at_s:.0f}" for at_s in times_s]
    rules = manifests["rules"]
    loads = {}
    with prometheus("\n".join([*lines, "# EOF", ""])) as query:
        for deployment, record in (
            ("mirrorme-gateway", "mirrorme:gateway_load:sum"),
            ("mirrorme-triton-gpu", "mirrorme:pool_load:sum"),
        ):
            # The rule that it reads, in its place: both are evaluated at the same moment.
            expected = f"({rules[EXPECTED]})"
            parts = re.split(rf"{EXPECTED}\{{[^}}]*\}}", rules[record])
            expression = expected.join(parts)
            loads[deployment] = query(expression, base_s, base_s + times_s[-1])
    return times_s, loads


@contextmanager
def prometheus(samples: str) -> Iterator[Any]:
    """A real Prometheus that holds the samples; gives a function that asks for a range."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "samples.om").write_text(samples)
        (folder / "prometheus.yml").write_text("{}\n")
        data = folder / "data"
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
        subprocess.run([*command, folder / "samples.om", data], check=True, capture_output=True)
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{PORT}",
                "--storage.tsdb.retention.time=30d",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_ready()
            yield _ask
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_ready() -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/-/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("Prometheus was not ready within a minute")


def _ask(expression: str, start_s: float, end_s: float) -> NDArray[np.float64]:
    given = {"query": expression, "start": start_s, "end": end_s, "step": SYNC_PERIOD_S}
    url = f"http://127.0.0.1:{PORT}/api/v1/query_range?{urllib.parse.urlencode(given)}"
    with urllib.request.urlopen(url) as response:
        (series,) = json.load(response)["data"]["result"]
    by_time = {float(at_s): float(value) for at_s, value in series["values"]}
    times_s = np.arange(start_s, end_s + 1, SYNC_PERIOD_S)
    return np.array([by_time.get(at_s, np.nan) for at_s in times_s])


def replay(
    manifest: dict[str, Any], times_s: NDArray[np.float64], load: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Replicas asked for over time. A pool's guard by queue time is silent: nothing queues here."""
    autoscaler = Autoscaler.of_manifest(manifest)
    silent = [None] * (len(autoscaler.targets) - 1)
    replicas = autoscaler.min_replicas
    chosen = []
    for at_s, value in zip(times_s, load, strict=True):
        wish = None if np.isnan(value) else float(value)
        replicas = autoscaler.decide(float(at_s), replicas, [wish, *silent])
        chosen.append(replicas)
    return np.array(chosen)


def _ready(replicas: NDArray[np.int64], lead_s: float) -> NDArray[np.int64]:
    """A pod counts once it has been asked for without a break for `lead_s`."""
    window = int(lead_s / SYNC_PERIOD_S)
    padded = np.concatenate([np.full(window, replicas[0]), replicas])
    return np.array([padded[i : i + window + 1].min() for i in range(len(replicas))])


def judge(
    seed: int,
    load: str,
    deployment: str,
    times_s: NDArray[np.float64],
    active: NDArray[np.int64],
    replicas: NDArray[np.int64],
    carried: NDArray[np.int64],
) -> Outcome:
    """What came of it."""
    after = times_s >= WARM_UP_S
    short = np.maximum(active - carried, 0)[after]
    steps = np.sign(np.diff(replicas[after]))
    directions = steps[steps != 0]
    hours = SYNC_PERIOD_S / 3600
    return Outcome(
        seed=seed,
        load=load,
        deployment=deployment,
        peak_sessions=int(active.max()),
        peak_replicas=int(replicas.max()),
        sessions_without_capacity_s=float(short.sum() * SYNC_PERIOD_S),
        seconds_short=float((short > 0).sum() * SYNC_PERIOD_S),
        direction_changes=int((np.diff(directions) != 0).sum()),
        pod_hours=round(float(replicas.sum() * hours), 1),
        pod_hours_of_a_fixed_fleet=round(float(replicas.max() * len(replicas) * hours), 1),
    )


def plot(curves: dict[tuple[str, str], tuple[Any, ...]], path: Path) -> None:
    """Sessions against what ready pods carry, one row a Deployment."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 7), sharex=True, constrained_layout=True)
    for axis, ((load, deployment), curve) in zip(axes.T.flat, curves.items(), strict=True):
        times_s, active, replicas, carried = curve
        hours = times_s / 3600
        axis.fill_between(hours, active, alpha=0.35, label="sessions")
        axis.plot(hours, carried, label="carried by ready pods")
        axis.set_title(f"{deployment}, {load}")
        axis.set_ylabel("sessions")
        other = axis.twinx()
        other.step(hours, replicas, "k:", linewidth=1, label="replicas asked for")
        other.set_ylabel("replicas")
        other.set_ylim(0)
        axis.legend(loc="upper left")
    for axis in axes[1]:
        axis.set_xlabel("hours")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
