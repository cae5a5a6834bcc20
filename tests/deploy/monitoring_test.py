#!/usr/bin/env python3
"""deploy/alerts.yml and deploy/grafana.json: rules that fire when they should, expressions that Prometheus can read, of
metrics that exist, and a page of the runbook for each alert.

Needs promtool, of Debian's package prometheus.
"""
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SECTIONS = ["## What it means", "## Where to look", "## What to do"]
RULES = (DEPLOY / "alerts.yml").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())


def alerts():
    return re.findall(r"^  - alert: (\w+)$", RULES, re.M)


def panel_expressions():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def metrics_of(text):
    """Names of metrics in PromQL: those of ours and Envoy's have a prefix."""
    names = re.findall(r"\b(?:vllm:|nibble_)\w+", text)
    return {re.sub(r"_bucket$", "", name) for name in names}


def exported():
    """Names that the daemon's source gives its metrics."""
    return set(re.findall(r'"((?:vllm:|nibble_)\w+)"', (ROOT / "server" / "metrics.cc").read_text()))


def promtool(*arguments):
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Monitoring(unittest.TestCase):
    def check_rules(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(text)
            file.flush()
            return promtool("check", "rules", "--lint-fatal", file.name)

    def test_rules_are_valid(self):
        done = self.check_rules(RULES)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotEqual(self.check_rules(RULES.replace("== 0", "== (", 1)).returncode, 0)

    def test_each_alert_fires_in_its_story_and_none_in_a_quiet_one(self):
        cases = ROOT / "tests" / "deploy" / "alerts_cases.yml"
        done = promtool("test", "rules", cases)
        self.assertEqual(done.returncode, 0, done.stdout)
        for alert in alerts():
            self.assertIn(f'{{alertname="{alert}"}}', cases.read_text())

    def test_each_alert_has_a_page(self):
        self.assertEqual(sorted(alerts()), sorted(page.stem for page in (DEPLOY / "runbook").iterdir()))
        for alert in alerts():
            lines = (DEPLOY / "runbook" / f"{alert}.md").read_text().splitlines()
            self.assertEqual(lines[0], f"# {alert}")
            self.assertEqual([line for line in lines if line.startswith("## ")], SECTIONS, alert)
            self.assertLess(len(lines), 50, f"{alert}: more than a page")
            self.assertIn(f"runbook: deploy/runbook/{alert}.md", RULES)

    def test_metrics_exist(self):
        self.assertLessEqual(metrics_of(RULES), exported())
        self.assertNotIn("vllm:unheard_of", exported())
        for title, expression in panel_expressions():
            self.assertLessEqual(metrics_of(expression), exported(), title)
        for page in (DEPLOY / "runbook").iterdir():
            self.assertLessEqual(metrics_of(page.read_text()), exported(), page.name)

    def test_panels_are_valid_promql(self):
        groups = "groups:\n- name: panels\n  rules:\n"
        for i, (_, expression) in enumerate(panel_expressions()):
            plain = expression.replace("$__rate_interval", "5m")
            groups += f"  - record: panel:{i}\n    expr: {json.dumps(plain)}\n"
        done = self.check_rules(groups)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_panels_neither_overlap_nor_share_an_id(self):
        places, ids = set(), [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(places & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            places |= taken


if __name__ == "__main__":
    unittest.main()
