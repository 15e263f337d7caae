# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""promtool on the rules as the templates of the roles render them. PROMTOOL names it; `make rules` does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from roles import Role

TESTS = sorted(Path(__file__).parent.glob("*.yml"))


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """A folder with the rules of each PrometheusRule as Prometheus reads them, by the name of the object."""
    folder = tmp_path_factory.mktemp("rules")
    manifests = Role("metrics").manifests(metrics_gpu_alert=True, metrics_tokens=["grafana", "watched"])
    models = [{"name": "full"}, {"name": "small", "baseline": "full"}]
    manifests += Role("lmeval").manifests(lmeval_models=models, __lmeval_code={}, __lmeval_gate_z=1.6449)
    for manifest in manifests:
        if manifest["kind"] == "PrometheusRule":
            (folder / f"{manifest['metadata']['name']}.yml").write_text(yaml.safe_dump(manifest["spec"], sort_keys=False))
    return folder


def every(folder):
    """All rules."""
    return [rule for path in folder.glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def promtool(*words):
    done = subprocess.run([os.environ["PROMTOOL"], *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check(rules):
    promtool("check", "rules", *rules.glob("*.yml"))


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.stem)
def test_rules(rules, tmp_path, test):
    """Of the annotations the summaries are compared; description and runbook are prose."""
    for name in yaml.safe_load(test.read_text())["rule_files"]:
        content = yaml.safe_load((rules / name).read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["annotations"] = {"summary": rule["annotations"]["summary"]}
        (tmp_path / name).write_text(yaml.safe_dump(content, sort_keys=False))
    (tmp_path / test.name).write_text(test.read_text())
    promtool("test", "rules", tmp_path / test.name)


def test_each_rule_has_a_test_of_both_outcomes(rules):
    wanted = {(rule.get("alert") or rule["record"], outcome) for rule in every(rules) for outcome in (True, False)}
    seen = set()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            seen |= {(one["alertname"], bool(one["exp_alerts"])) for one in test.get("alert_rule_test", [])}
            for one in test.get("promql_expr_test", []):
                seen |= {(name, bool(one["exp_samples"])) for name in re.findall(r"\b[a-z]\w+", one["expr"])}
    assert wanted - seen == set()


def test_an_alert_says_what_to_do(rules):
    for rule in every(rules):
        if "alert" in rule:
            assert sorted(rule["annotations"]) == ["description", "runbook", "summary"], rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning")


def test_no_rule_is_recorded_from_itself(rules):
    recorded = {rule["record"] for rule in every(rules) if "record" in rule}
    for rule in every(rules):
        if "record" in rule:
            assert not recorded & set(re.findall(r"[a-zA-Z_:][\w:]*", rule["expr"])), rule["record"]
