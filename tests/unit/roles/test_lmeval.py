# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What role lmeval makes. What it makes of models and tasks is in tests/unit/plugins/module_utils/test_lm_eval_spec.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval, _lm_eval_spec

from roles import ROOT, Role, evaluating

MODELS = [{"name": "full"}, {"name": "small", "baseline": "full"}, {"name": "third", "inference_service": "x", "namespace": "other"}]


@pytest.fixture(scope="module")
def evaluate():
    with evaluating("lmeval", lmeval_models=MODELS) as evaluate:
        yield evaluate


@pytest.fixture
def manifests(evaluate):
    """The objects of the role."""

    def manifests(**given):
        return [item for text in evaluate("__lmeval_manifests", **given) for item in yaml.safe_load_all(text) if item]

    return manifests


def one(made, kind):
    (found,) = [item for item in made if item["kind"] == kind]
    return found


def test_everything_has_its_place(manifests):
    made = [f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}" for item in manifests(metrics_namespace="monitored")]
    assert made == [
        "ServiceAccount private-ai-demo/lm-eval-exporter",
        "Role private-ai-demo/lm-eval-exporter",
        "RoleBinding private-ai-demo/lm-eval-exporter",
        "ConfigMap private-ai-demo/lm-eval-exporter",
        "CronJob private-ai-demo/lm-eval-exporter",
        "PrometheusRule monitored/model-monitoring-evaluations",
    ]


@pytest.mark.parametrize(
    ("site", "kinds"),
    [
        ({"lmeval_exporter": False}, []),
        ({"lmeval_alerts": False}, ["ServiceAccount", "Role", "RoleBinding", "ConfigMap", "CronJob"]),
        ({"lmeval_exporter": False, "lmeval_mesh": "always"}, ["Sidecar"]),
        ({"lmeval_exporter": False, "__lmeval_sidecars": {"api_found": True}}, ["Sidecar"]),
        ({"lmeval_exporter": False, "__lmeval_sidecars": {"api_found": True}, "lmeval_mesh": "never"}, []),
    ],
)
def test_what_is_made_where(manifests, site, kinds):
    assert [item["kind"] for item in manifests(**site)] == kinds


def test_what_is_left_out_is_removed(evaluate):
    assert (
        evaluate(
            "__lmeval_unwanted_templates",
        )
        == []
    )
    assert len(evaluate("__lmeval_unwanted_templates", lmeval_exporter=False)) == 6
    assert evaluate("__lmeval_unwanted_templates", lmeval_mesh="never") == ["sidecar.yaml.j2"]


def test_the_exporter_may_read_evaluations_and_nothing_else(manifests):
    assert one(manifests(), "Role")["rules"] == [{"apiGroups": ["trustyai.opendatahub.io"], "resources": ["lmevaljobs"], "verbs": ["get", "list"]}]


def test_the_exporter_runs_the_code_of_the_modules(manifests):
    data = one(manifests(), "ConfigMap")["data"]
    assert data["_lm_eval.py"] == Path(_lm_eval.__file__).read_text().rstrip("\n")
    assert data["exporter.py"] == (ROOT / "roles/lmeval/files/exporter.py").read_text().rstrip("\n")


def test_the_exporters_pod(manifests):
    cron = one(manifests(lmeval_exporter_image="python:3", metrics_namespace="m"), "CronJob")["spec"]
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (cron["schedule"], container["image"], container["command"]) == ("*/5 * * * *", "python:3", ["python3", "/code/exporter.py"])
    assert {variable["name"]: variable["value"] for variable in container["env"]} == {
        "PYTHONDONTWRITEBYTECODE": "1",
        "NAMESPACE": "private-ai-demo",
        "SELECTOR": _lm_eval.EVALUATION_LABEL,
        "PUSHGATEWAY": "http://pushgateway.m.svc:9091",
    }
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
    assert pod["volumes"] == [{"name": "code", "configMap": {"name": "lm-eval-exporter"}}]


def test_models_and_their_baselines(evaluate):
    assert evaluate(
        "__lmeval_baselines",
    ) == {"small": "full"}
    assert evaluate("__lmeval_baselines", lmeval_models=[]) == {}


@pytest.mark.parametrize(
    ("comparisons", "models"),
    [
        ([], ["small"]),
        ([{"model": "small", "verdict": "unknown"}], ["small"]),
        ([{"model": "small", "verdict": "unknown"}, {"model": "small", "verdict": "not worse"}], []),
        ([{"model": "small", "verdict": "worse"}], []),
    ],
)
def test_a_gate_that_compares_nothing_is_closed(evaluate, comparisons, models):
    assert evaluate("__lmeval_uncompared", __lmeval_found={"comparisons": comparisons}) == models
    given = {"__lmeval_uncompared": models, "lmeval_gate": True, "ansible_check_mode": False}
    assert Role("lmeval").applies("ready.yml", "Fail where nothing could be compared", **given) is bool(models)
    assert Role("lmeval").applies("ready.yml", "Fail where nothing could be compared", **{**given, "ansible_check_mode": True}) is False


def test_the_alert_is_of_pairs(manifests):
    rules = one(manifests(), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert [(rule["alert"], rule["labels"].get("model")) for rule in rules] == [
        ("ModelQualityWorse", "small"),
        ("EvaluationFailed", None),
        ("EvaluationUnreadable", None),
        ("EvaluationExportStale", None),
    ]
    assert "metric=~" not in str(one(manifests(lmeval_gate_metrics=[]), "PrometheusRule"))


SERVICES = {
    "inference_services": [
        {"name": "full", "namespace": "private-ai-demo", "ready": True, "auth_required": True, "state": "is ready"},
        {"name": "small", "namespace": "private-ai-demo", "ready": False, "auth_required": False, "state": "is stopped"},
        {"name": "x", "namespace": "other", "ready": False, "auth_required": True, "state": "does not exist"},
    ]
}


def test_models_that_are_not_ready(evaluate):
    services = [{**one, "url": "http://a", "model": "m"} for one in SERVICES["inference_services"]]
    given = {"__lmeval_services": {"inference_services": services}, "lmeval_tasks": [{"name": "t"}]}
    assert [one["model"] for one in evaluate("__lmeval_evaluations", **given)] == ["full", "small", "third"]
    assert [one["model"] for one in evaluate("__lmeval_evaluations_ready", **given)] == ["full"]
    assert evaluate("__lmeval_late_words", __lmeval_services=SERVICES) == [
        "InferenceService private-ai-demo/small was not evaluated: is stopped.",
        "InferenceService other/x was not evaluated: does not exist.",
    ]
    assert (
        evaluate(
            "__lmeval_late_words",
        )
        == []
    )


@pytest.mark.parametrize(
    ("run", "late", "push", "check_mode", "said"),
    [
        ({}, [], {}, False, ""),
        ({"msg": "a failed."}, ["b was not evaluated."], {}, False, "a failed. b was not evaluated."),
        ({}, ["b was not evaluated."], {"skipped": True}, True, ""),
        (
            {},
            [],
            {"msg": "Job a/b: BackoffLimitExceeded."},
            False,
            "The results were not pushed to http://pushgateway.private-ai-demo.svc:9091, which each run of CronJob lm-eval-exporter tries again:"
            " Job a/b: BackoffLimitExceeded.",
        ),
    ],
)
def test_when_the_play_fails(run, late, push, check_mode, said):
    given = {"__lmeval_run": run, "__lmeval_late_words": late, "__lmeval_pushed": push, "ansible_check_mode": check_mode}
    assert " ".join(Role("lmeval").value("__lmeval_failures", **given)) == said
    task = "Fail where an evaluation has not succeeded, or its results were not pushed"
    assert Role("lmeval").applies("ready.yml", task, **given) is bool(said)


def test_models_that_ask_for_a_token_and_get_none(evaluate):
    assert evaluate("__lmeval_locked", __lmeval_services=SERVICES) == ["full", "third"]
    keyed = [{**model, "key_secret": {"name": "a", "key": "b"}} for model in MODELS]
    assert evaluate("__lmeval_locked", lmeval_models=keyed, __lmeval_services=SERVICES) == []


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ({"__lmeval_problems": ["a.", "b."]}, "a. b."),
        ({"lmeval_offline_volume": "a", "lmeval_offline_s3": {"path": "b"}}, "lmeval_offline_volume and lmeval_offline_s3 exclude each other"),
        ({"lmeval_gate_margin": -1}, "lmeval_gate_margin: -1 is less than nothing"),
        ({"lmeval_gate_confidence": 95}, "lmeval_gate_confidence: 95 is no confidence"),
        ({"lmeval_gate": True, "lmeval_models": [{"name": "full"}]}, "lmeval_gate: no model of lmeval_models has a baseline"),
        ({"lmeval_parallel": 0}, "lmeval_parallel and lmeval_keep must be 1 or more"),
    ],
)
def test_bad_input(site, said):
    (found,) = Role("lmeval").checks(**{"lmeval_models": MODELS, "__lmeval_problems": [], **site})
    assert said in found


def test_good_input():
    assert Role("lmeval").checks(lmeval_models=MODELS, __lmeval_problems=[], lmeval_gate=True) == []


def test_the_settings_are_all_that_the_filters_know(evaluate):
    settings = evaluate("__lmeval_settings", lmeval_offline_volume="data")
    assert settings["offline"] == {"pvcName": "data"} and settings["limit"] == 100
    assert _lm_eval_spec.problems([{"name": "a"}], [{"name": "t"}], settings) == []
    (evaluation,) = _lm_eval_spec.evaluations([{"name": "a", "url": "http://a"}], [{"name": "t"}], settings, [])
    assert evaluation["spec"]["limit"] == "100" and "numFewShot" not in evaluation["spec"]


def test_what_a_model_and_a_task_may_have_is_what_the_filters_read():
    options = yaml.safe_load((ROOT / "roles/lmeval/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    source = Path(_lm_eval_spec.__file__).read_text()
    for name in (*options["lmeval_models"]["options"], *options["lmeval_tasks"]["options"]):
        assert f'"{name}"' in source, name


ROWS = [
    {"name": "full-arc-easy", "state": "succeeded", "seconds": 118.2, "made": True, "reason": "", "denied": ["online access"], "job": "j"},
    {"name": "small-arc-easy", "state": "not started", "seconds": None, "made": False, "reason": "was not started.", "denied": [], "job": None},
]


def test_the_table(evaluate):
    comparisons = [{"words": "small is worse", "verdict": "worse"}]
    given = {"__lmeval_run": {"evaluations": ROWS}, "__lmeval_services": SERVICES, "__lmeval_found": {"comparisons": comparisons}}
    assert evaluate("lookup('ansible.builtin.template', 'evaluations.txt.j2')", **given).splitlines() == [
        "evaluation      state        seconds  made  reason",
        "full-arc-easy   succeeded        118  yes   without online access",
        "small-arc-easy  not started           no    was not started.",
        "small           not ready                   is stopped",
        "x               not ready                   does not exist",
        "",
        "small is worse",
    ]


def test_the_run_right_after_evaluations_is_that_of_the_cron_job(evaluate, manifests):
    text = evaluate("lookup('ansible.builtin.template', 'job-exporter.yaml.j2')", __lmeval_run={"evaluations": ROWS[:1]})
    job = yaml.safe_load(text)
    assert job["spec"] == one(manifests(), "CronJob")["spec"]["jobTemplate"]["spec"]
    assert job["metadata"]["name"] == "lm-eval-exporter-5c2dd944"


def test_the_limit_of_the_alert_is_that_of_the_gate(evaluate):
    assert evaluate("__lmeval_gate_z") == 1.6449
    assert evaluate("__lmeval_gate_z", lmeval_gate_confidence=0.99) == 2.3263


def test_the_filters_take_what_the_role_gives_them(evaluate):
    bad = [{"name": "a"}, {"name": "a"}]
    assert "two are named a" in evaluate("__lmeval_problems", lmeval_models=bad)[0]
    assert evaluate("__lmeval_needs")["inference_services"][2] == {"name": "x", "namespace": "other"}
    made = evaluate("__lmeval_evaluations", lmeval_models=[{"name": "a", "url": "http://a"}])
    assert [one["name"] for one in made] == ["a-arc-easy", "a-hellaswag"]
