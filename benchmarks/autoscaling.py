"""The chart's autoscaling over a load that rises and falls: replicas, and what was missed.

The chart is rendered by Helm with its default reserves. Its own recording rules are evaluated by a
real Prometheus over recorded sessions, for each number of pods that may run, since they read it;
its own HorizontalPodAutoscalers decide as Kubernetes' controller does (`autoscaler.py`). A pod
serves `leadSeconds` after it is asked for. Writes `benchmarks/results/autoscaling.json` and `.png`.

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
from collections.abc import Iterable, Iterator
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
# The first hour warms up; then a day's shape, and hours of little load for pods to go in.
UNTIL_S = 12 * 3600.0
LOADS = {
    "steady rise": rise_and_fall(20, 240, 2.0 * 3600, 1.5 * 3600, 2.0 * 3600, 3600),
    "steep rise": rise_and_fall(20, 240, 0.5 * 3600, 2.0 * 3600, 0.5 * 3600, 3600),
}
WARM_UP_S = 3600.0
EXPECTED = "mirrorme:sessions_expected:sum"
MEAN_SESSION_S = 420.0
MAX_REPLICAS = 64
GATEWAY_PLACES = 16
SERVER_STREAMS = 8
_SCALING = {"enabled": True, "minReplicas": 2, "maxReplicas": MAX_REPLICAS}
VALUES = {
    "gateway": {
        "platform": "triton",
        "settings": {"maxSessions": GATEWAY_PLACES},
        "autoscaling": _SCALING,
    },
    "pools": [{"name": "gpu", "streamsPerReplica": SERVER_STREAMS, "autoscaling": _SCALING}],
    "monitoring": {"rules": {"enabled": True}},
}


@dataclass(frozen=True)
class Scaled:
    """A Deployment that scales, and the series that its autoscaler reads and is made of."""

    deployment: str
    carries: int
    load: str
    need: str
    running: str


SCALED = (
    Scaled(
        "mirrorme-gateway",
        GATEWAY_PLACES,
        "mirrorme:gateway_load:sum",
        "mirrorme:gateway_need:sum",
        "mirrorme:gateways_ready:sum",
    ),
    Scaled(
        "mirrorme-triton-gpu",
        SERVER_STREAMS,
        "mirrorme:pool_load:sum",
        "mirrorme:pool_need:sum",
        "mirrorme:servers_up:sum",
    ),
)


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
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--num-seeds", type=int, default=5, help="two loads each")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    manifests = render()
    lead_s = yaml.safe_load((CHART / "values.yaml").read_text())["autoscaling"]["leadSeconds"]
    outcomes, curves = [], {}
    for seed in range(arguments.seed, arguments.seed + arguments.num_seeds):
        for load, wanted in LOADS.items():
            sessions = draw_sessions(seed, UNTIL_S, wanted, mean_length_s=MEAN_SESSION_S)
            times_s, loads, hold_s = recorded_loads(manifests, sessions)
            active = sessions.active(times_s)
            for scaled in SCALED:
                name = scaled.deployment
                replicas, ready = replay(manifests[name], times_s, loads[name], lead_s, hold_s)
                carried = ready * scaled.carries
                outcomes.append(judge(seed, load, name, times_s, active, replicas, carried))
                curves.setdefault((load, name), (times_s, active, replicas, carried))
    document = {
        "made_by": "benchmarks/autoscaling.py",
        "assumed": {
            "carried_by_a_pod": {scaled.deployment: scaled.carries for scaled in SCALED},
            "seconds_until_a_pod_serves": lead_s,
            "mean_session_s": MEAN_SESSION_S,
        },
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (arguments.output / "autoscaling.json").write_text(json.dumps(document, indent=2) + "\n")
    plot(curves, arguments.output / "autoscaling.png")
    print(f"{len(outcomes)} replays")
    print(f"{sum(o.seconds_short > 0 for o in outcomes)} short of capacity at any time")
    print(
        f"{sum(o.direction_changes > 1 for o in outcomes)} with more than one change of direction"
    )


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
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], float]:
    """What autoscalers would have read every 15 seconds, from a Prometheus with these sessions.

    Returns:
        The times; by Deployment the load [pods that run, time]; and over how long the rules look
        for the fewest pods that ran.
    """
    times_s = np.arange(0.0, UNTIL_S, SYNC_PERIOD_S)
    base_s = (int(time.time()) - int(UNTIL_S) - 7200) // 15 * 15
    rules = manifests["rules"]
    loads, windows_s = {}, set()
    with prometheus(_samples(sessions.active(times_s), base_s + times_s)) as query:
        for scaled in SCALED:
            expression = rules[scaled.load]
            # The rules that it reads, in their place: all are evaluated at the same moment.
            for record in (scaled.need, EXPECTED):
                expression = f"({rules[record]})".join(re.split(rf"{record}{{[^}}]*}}", expression))
            windows_s |= {
                60.0 * int(m) for m in re.findall(r"min_over_time\(.+?\[(\d)m]", expression)
            }
            # Every number of pods is a release of its own; what stands in place has no pool.
            expression = expression.replace('release="mirrorme"', 'release!=""')
            expression = expression.replace(',pool="gpu"', "")
            loads[scaled.deployment] = query(expression, base_s, base_s + times_s[-1])
    (window_s,) = windows_s
    return times_s, loads, window_s


def _samples(active: NDArray[np.int64], times_s: NDArray[np.float64]) -> Iterator[str]:
    """As OpenMetrics: the same sessions, and each number of pods that may run."""
    # What does not change needs a sample every few minutes.
    seldom_s = times_s[:: int(240 / SYNC_PERIOD_S)]
    places = np.full(len(seldom_s), GATEWAY_PLACES)
    values = {
        "mirrorme:sessions_active:sum": lambda _: (active, times_s),
        "mirrorme:sessions_capacity:avg": lambda _: (places, seldom_s),
        **{s.running: lambda pods: (np.full(len(seldom_s), pods), seldom_s) for s in SCALED},
    }
    for name, of_pods in values.items():
        yield f"# TYPE {name} gauge"
        for pods in range(MAX_REPLICAS + 1):
            labels = f'{{namespace="avatars",release="{pods}"}}'
            for value, at_s in zip(*of_pods(pods), strict=True):
                yield f"{name}{labels} {value} {at_s:.0f}"
    yield "# EOF"


@contextmanager
def prometheus(samples: Iterable[str]) -> Iterator[Any]:
    """A real Prometheus that holds the samples; gives a function that asks for a range."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (folder / "samples.om").open("w") as file:
            file.writelines(f"{line}\n" for line in samples)
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
                "--query.timeout=30m",
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
    """Values [release, time], not a number where there is none."""
    given = {"query": expression, "start": start_s, "end": end_s, "step": SYNC_PERIOD_S}
    url = f"http://127.0.0.1:{PORT}/api/v1/query_range?{urllib.parse.urlencode(given)}"
    with urllib.request.urlopen(url) as response:
        result = json.load(response)["data"]["result"]
    found = np.full((MAX_REPLICAS + 1, int((end_s - start_s) / SYNC_PERIOD_S) + 1), np.nan)
    for series in result:
        for at_s, value in series["values"]:
            place = round((at_s - start_s) / SYNC_PERIOD_S)
            found[int(series["metric"]["release"]), place] = float(value)
    return found


def replay(
    manifest: dict[str, Any],
    times_s: NDArray[np.float64],
    loads: NDArray[np.float64],
    lead_s: float,
    window_s: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Replicas asked for and pods that serve, over time.

    A pod serves once it has been asked for without a break for `lead_s`. A pool's guard by queue
    time is silent: nothing queues here.

    Args:
        loads: what the autoscaler reads [pods that run, time].
        window_s: over so long the fewest pods that ran count.
    """
    autoscaler = Autoscaler.of_manifest(manifest)
    silent = [None] * (len(autoscaler.targets) - 1)
    lead, window = int(lead_s / SYNC_PERIOD_S), int(window_s / SYNC_PERIOD_S)
    chosen = [autoscaler.min_replicas] * (lead + 1)
    ready = [autoscaler.min_replicas] * (window + 1)
    for i, at_s in enumerate(times_s):
        ready.append(min(chosen[-lead - 1 :]))
        load = loads[min(ready[-window - 1 :]), i]
        wish = None if np.isnan(load) else float(load)
        chosen.append(autoscaler.decide(float(at_s), chosen[-1], [wish, *silent]))
    return np.array(chosen[lead + 1 :]), np.array(ready[window + 1 :])


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
