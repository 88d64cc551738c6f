"""What the chart's rules and dashboard read of Triton, in a real server's scrape; and its flags."""

from __future__ import annotations

import re
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.triton.triton_process import TritonProcess

pytestmark = pytest.mark.triton

DEPLOY = Path(__file__).parents[2] / "deploy"
sys.path.append(str(DEPLOY / "triton"))


def test_metrics_that_the_chart_reads_are_exported(server: TritonProcess) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
        text = response.read().decode()
    exported = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    rules = (DEPLOY / "helm/mirrorme/templates/prometheus-rule.yaml").read_text()
    expected = (DEPLOY / "helm/mirrorme/templates/_expected.tpl").read_text()
    dashboard = (DEPLOY / "helm/mirrorme/files/dashboard.json").read_text()
    asked = set(re.findall(r"\bnv_\w+", rules + expected + dashboard))
    assert asked and asked <= exported
    # The labels that they are summed by.
    assert re.search(r'^nv_inference_request_failure\{.*reason="BACKEND"', text, re.MULTILINE)
    assert re.search(r'^nv_inference_count\{model="\w+",version="\d+"\}', text, re.MULTILINE)


def test_the_server_knows_the_charts_flags() -> None:
    from installation import Installation

    text = (DEPLOY / "helm/mirrorme/templates/triton-deployment.yaml").read_text()
    asked = set(re.findall(r"^ +- (--[a-z-]+)", text, re.MULTILINE))
    compose = yaml.safe_load((DEPLOY / "docker/compose.gpu.yaml").read_text())
    flags = [word for word in compose["services"]["triton"]["command"] if word.startswith("--")]
    asked |= {flag.partition("=")[0] for flag in flags}
    known = Installation(DEPLOY.parent / ".triton").known_flags()
    assert asked and asked <= known
