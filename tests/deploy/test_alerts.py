"""The chart's rules in promtool: every alert fires, clears, and has its entry in the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.alert_cases import CASES, GATEWAY, AlertCase
from tests.deploy.chart import EVERYTHING, ROOT, of_kind, render

pytestmark = pytest.mark.deploy


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule_groups()))
    return file


def rule_groups() -> dict[str, Any]:
    (rule,) = of_kind(render(EVERYTHING), "PrometheusRule")
    return rule["spec"]


def alerts() -> dict[str, dict[str, Any]]:
    rules = [rule for group in rule_groups()["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def promtool(*arguments: str | Path) -> str:
    binary = shutil.which("promtool")
    assert binary, "promtool is not installed: apt-get install prometheus"
    result = subprocess.run([binary, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def unit_tests(rules: Path, tests: list[dict[str, Any]]) -> None:
    file = rules.with_name("tests.yaml")
    document = {"rule_files": [rules.name], "evaluation_interval": "15s", "tests": tests}
    file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", file)


def series(case: AlertCase) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in case.series.items()]


def test_rules_are_valid(rules: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", rules)


def test_every_alert_has_a_case() -> None:
    assert sorted(case.alert for case in CASES) == sorted(alerts())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_alert_fires_and_clears(rules: Path, case: AlertCase) -> None:
    labels = {"severity": case.severity, "namespace": "avatars", "release": "mirrorme"}
    url = f"docs/operations.md#{case.alert.lower()}"
    fired = {
        "exp_labels": labels | case.labels,
        "exp_annotations": {"summary": case.summary, "runbook_url": url},
    }
    moments = [(case.quiet_min, []), (case.fires_min, [fired]), (case.clears_min, [])]
    asked = [
        {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": expected}
        for minute, expected in moments
    ]
    unit_tests(rules, [{"interval": "1m", "input_series": series(case), "alert_rule_test": asked}])


def test_gateways_that_vanish_are_down(rules: Path) -> None:
    """Without any series, as when all pods are gone."""
    alert = {"eval_time": "5m", "alertname": "MirrorMeGatewayDown"}
    labels = {"severity": "critical", "namespace": "avatars", "release": "mirrorme"}
    annotations = {
        "summary": "No gateway answers.",
        "runbook_url": "docs/operations.md#mirrormegatewaydown",
    }
    expected = {"exp_labels": labels | {"job": "mirrorme-gateway"}, "exp_annotations": annotations}
    unit_tests(rules, [{"alert_rule_test": [alert | {"exp_alerts": [expected]}]}])


def test_recorded_load_is_what_autoscalers_want(rules: Path) -> None:
    """Steady sessions count as they are, rising ones as they will be when a pod is up."""
    ours = '{namespace="avatars",release="mirrorme"}'
    pool = '{namespace="avatars",pool="l4",release="mirrorme"}'
    steady = {
        f'mirrorme_sessions_active{{{GATEWAY},pod="a"}}': "6x20",
        f'mirrorme_sessions_active{{{GATEWAY},pod="b"}}': "4x20",
        f'mirrorme_sessions_capacity{{{GATEWAY},pod="a"}}': "8x20",
        f'mirrorme_sessions_capacity{{{GATEWAY},pod="b"}}': "8x20",
    }
    rising = {
        f'mirrorme_sessions_active{{{GATEWAY},pod="a"}}': "0+2x20",
        f'mirrorme_sessions_capacity{{{GATEWAY},pod="a"}}': "8x20",
    }

    def asked(expression: str, value: float, labels: str) -> dict[str, Any]:
        name = expression.partition("{")[0]
        samples = [{"labels": f"{name}{labels}", "value": value}]
        return {"expr": expression, "eval_time": "10m", "exp_samples": samples}

    expected_sessions = f"mirrorme:sessions_expected:sum{ours}"
    unit_tests(
        rules,
        [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in steady.items()],
                "promql_expr_test": [
                    asked(expected_sessions, 10, ours),
                    # 10 and 8 to spare, of 8 a gateway.
                    asked(f"mirrorme:gateway_load:sum{ours}", 2.25, ours),
                    # 40 % of 10 of 8 a server, and two to spare at 75 %.
                    asked(f"mirrorme:pool_load:sum{pool}", 2.0, pool),
                ],
            },
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in rising.items()],
                "promql_expr_test": [
                    {
                        "expr": f"{expected_sessions} > bool 28.5",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": ours, "value": 1}],
                    },
                    {
                        "expr": f"{expected_sessions} > bool 31",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": ours, "value": 0}],
                    },
                ],
            },
        ],
    )


@pytest.mark.parametrize(
    ("ready", "load"),
    [
        # One gateway's sessions and 8 to spare are wanted: 2 of 8. Those at 70 %:
        ("2x20", 2.0),  # too few
        ("3x20", 2.1),  # all are wanted, though a little less would do
        ("4x20", 2.8),
        ("5x20", 3.0),  # one may go: the others have half as much to spare
        ("2x7 3x1 2x12", 2.0),  # a roll-out's surge holds nobody
        ("_x20", 2.0),
    ],
)
def test_pods_go_only_where_others_have_room(rules: Path, ready: str, load: float) -> None:
    given = {
        f'mirrorme_sessions_active{{{GATEWAY},pod="a"}}': "8x20",
        f'mirrorme_sessions_capacity{{{GATEWAY},pod="a"}}': "8x20",
        f'mirrorme_ready{{{GATEWAY},pod="a"}}': ready,
    }
    name = "mirrorme:gateway_load:sum"
    labels = '{namespace="avatars",release="mirrorme"}'
    asked = {
        "expr": f"round({name}{labels}, 0.001)",
        "eval_time": "10m",
        "exp_samples": [{"labels": labels, "value": load}],
    }
    inputs = [{"series": s, "values": v} for s, v in given.items()]
    unit_tests(rules, [{"interval": "1m", "input_series": inputs, "promql_expr_test": [asked]}])


def test_every_alert_has_its_entry_in_the_runbook() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    entries = re.split(r"^### ", page, flags=re.MULTILINE)
    by_alert = {entry.partition("\n")[0].strip(): entry for entry in entries[1:]}
    for alert in alerts():
        entry = by_alert[alert]
        for part in ("**Meaning.**", "**Check.**", "**Action.**"):
            assert part in entry, (alert, part)
    assert {name for name in by_alert if name.startswith("MirrorMe")} == set(alerts())
