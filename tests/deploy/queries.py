"""Every PromQL expression of the chart, and what metrics and labels it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.deploy.chart import CHART, EVERYTHING, of_kind, render
from tests.deploy.options import OPTIONS

# Labels that the scrape gives, not the program.
SCRAPED = {"namespace", "job", "pod", "pool", "release"}
_SELECTOR = re.compile(r"(?<![\w:\"])([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?=[\s\[\])/*+<>=,-]|$)")
_WORDS = {"sum", "avg", "max", "min", "count", "rate", "increase", "by", "le", "or", "and", "bool"}
_WORDS |= {"absent", "time", "histogram_quantile", "predict_linear", "without"}


def rules() -> list[dict[str, str]]:
    (rule,) = of_kind(render(EVERYTHING), "PrometheusRule")
    return [rule for group in rule["spec"]["groups"] for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def expressions() -> Iterator[tuple[str, str]]:
    """Who asks, and what."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"dashboard, {panel['title']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
            assert asked
            yield f"dashboard, ${variable['name']}", asked[1]
    for scaler in of_kind(render(OPTIONS["keda"]), "ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            yield scaler["metadata"]["name"], trigger["metadata"]["query"]


def series(expression: str) -> list[tuple[str, set[str]]]:
    """Metrics of an expression with the labels that are matched on or summed by."""
    summed = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in labels.split(",")
    }
    plain = re.sub(r"\b(by|without) \([^)]*\)", "", expression)
    found = []
    for name, matchers in _SELECTOR.findall(re.sub(r"\[[^\]]*\]", "", plain)):
        if name not in _WORDS and ("_" in name or ":" in name or name == "up"):
            matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            found.append((name, (matched | summed) - SCRAPED - {"le"}))
    return found
