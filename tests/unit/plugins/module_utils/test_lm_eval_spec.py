# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What a site writes down, what is wrong with it, and the jobs that come of it."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_spec
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_run import LONGEST_NAME

FULL = {"name": "mistral-24b"}
SMALL = {"name": "mistral-24b-quantized", "baseline": "mistral-24b"}
ARC, LOCAL = {"name": "arc_easy"}, {"name": "mine", "config_map": "my-tasks"}
SETTINGS = {"namespace": "demo", "limit": 100, "online": True, "volume_size": "1Gi"}
FOUND = [{"name": "mistral-24b", "namespace": "demo", "url": "http://m.demo.svc.cluster.local", "model": "mistral"}]


def problems(models=(FULL,), tasks=(ARC,), **settings):
    return _lm_eval_spec.problems(models, tasks, {**SETTINGS, **settings})


def spec(model=FULL, task=ARC, found=FOUND, **settings):
    ((one),) = _lm_eval_spec.evaluations([model], [task], {**SETTINGS, **settings}, found)
    return one["spec"]


def arguments(spec):
    return {one["name"]: one["value"] for one in spec["modelArgs"]}


def test_nothing_is_wrong():
    assert problems((FULL, SMALL), (ARC, LOCAL)) == []
    full = {
        **FULL,
        "url": "https://m.example.com:8443/a",
        "served_name": "org/m:1",
        "tokenizer": "org/m_1",
        "arguments": {"num_concurrent": 4, "x": True},
    }
    assert problems([full], generation_arguments={"temperature": 0.5}) == []


@pytest.mark.parametrize(
    ("models", "tasks", "settings", "said"),
    [
        ([FULL, FULL], [ARC], {}, "lmeval_models: two are named mistral-24b. Give each a name of its own"),
        ([SMALL], [ARC], {}, "the baseline mistral-24b of mistral-24b-quantized is none. Correct it; there is no other model."),
        ([{**FULL, "baseline": "mistral-24b"}, {"name": "b"}], [ARC], {}, "the baseline mistral-24b of mistral-24b is none. Correct it; there is b."),
        ([{**FULL, "url": "http://a", "inference_service": "b"}], [ARC], {}, "mistral-24b has both a url and an inference_service"),
        ([{**FULL, "url": "a.example.com"}], [ARC], {}, "the url 'a.example.com' of mistral-24b is none. Give scheme and host"),
        ([{**FULL, "tokenizer": "a", "tokenizer_config_map": "b"}], [ARC], {}, "has both a tokenizer and a tokenizer_config_map"),
        ([FULL], [ARC, ARC], {}, "lmeval_tasks: arc_easy is there twice"),
        ([FULL], [ARC], {"limit": 0}, "lmeval_limit: 0 is no limit. Give a number of documents from 1 on"),
        ([FULL], [{**ARC, "limit": 1.5}], {}, "lmeval_tasks: limit of arc_easy: 1.5 is no limit"),
        ([FULL], [ARC], {"online": False}, "the data of arc_easy cannot be had: it is no task of config_map, online access is off"),
        ([FULL], [{**ARC, "online": False}], {}, "the data of arc_easy cannot be had"),
        ([FULL], [{**ARC, "git": {"url": "http://a"}}], {"online": False}, "arc_easy comes from git, and online access is off"),
        ([FULL], [{**LOCAL, "git": {"url": "http://a"}}], {}, "mine has both git and config_map"),
        ([{**FULL, "served_name": "a; rm -rf"}], [ARC], {}, "lmeval_models: mistral-24b: served_name: 'a; rm -rf' cannot be written into LM-Eval's"),
        ([{**FULL, "tokenizer": "$(id)"}], [ARC], {}, "lmeval_models: mistral-24b: tokenizer: '$(id)' cannot be written"),
        ([{**FULL, "url": "http://a/?b&c"}], [ARC], {}, "lmeval_models: mistral-24b: url: 'http://a/?b&c' cannot be written"),
        ([{**FULL, "arguments": {"a": "b,c=d"}}], [ARC], {}, "lmeval_models: mistral-24b: arguments: a: 'b,c=d' cannot be written"),
        ([{**FULL, "arguments": {"a b": 1}}], [ARC], {}, "lmeval_models: mistral-24b: arguments: 'a b' cannot be written"),
        ([FULL], [{"name": "a,b"}], {}, "lmeval_tasks: name: 'a,b' cannot be written"),
        ([FULL], [{**ARC, "generation_arguments": {"until": "'"}}], {}, "lmeval_tasks: arc_easy: generation_arguments: until"),
        ([FULL], [ARC], {"model_arguments": {"a": "`"}}, "lmeval_model_arguments: a: '`' cannot be written"),
        ([FULL], [ARC], {"generation_arguments": {"a": ""}}, "lmeval_generation_arguments: a: '' cannot be written"),
        ([{**FULL, "url": "http://a:8000/v1/"}], [ARC], {}, "of mistral-24b ends in /v1"),
        ([FULL], [ARC], {"few_shot": "many"}, "lmeval_few_shot: many is no number of examples"),
    ],
)
def test_what_is_wrong(models, tasks, settings, said):
    (found,) = problems(models, tasks, **settings)
    assert said in found


@pytest.mark.parametrize("settings", [{"online": False, "offline": {"pvcName": "data"}}])
def test_data_that_is_there(settings):
    assert problems(**settings) == []
    assert problems(tasks=[LOCAL], online=False) == []
    assert problems(tasks=[{**ARC, "online": True}], online=False) == []


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (1, True),
        (100, True),
        (0.1, True),
        ("0.5", True),
        ("100", True),
        (1.0, True),
        (0, False),
        (1.5, False),
        (-1, False),
        ("all", False),
        (True, False),
    ]
    + [(0.0, False), ([], False)],
)
def test_limits(value, good):
    assert _lm_eval_spec.limit_is_good(value) is good


def test_an_evaluation():
    (one,) = _lm_eval_spec.evaluations([FULL], [ARC], {**SETTINGS, "annotations": {"a": "b"}}, FOUND)
    assert (one["name"], one["model"], one["annotations"]) == ("mistral-24b-arc-easy", "mistral-24b", {"a": "b"})
    assert one["spec"] == {
        "model": "local-completions",
        "modelArgs": [
            {"name": "model", "value": "mistral"},
            {"name": "base_url", "value": "http://m.demo.svc.cluster.local/v1/completions"},
            {"name": "num_concurrent", "value": "1"},
            {"name": "max_retries", "value": "3"},
            {"name": "tokenized_requests", "value": "False"},
            {"name": "tokenizer_backend", "value": "none"},
        ],
        "taskList": {"taskNames": ["arc_easy"]},
        "logSamples": True,
        "batchSize": "1",
        "limit": "100",
        "outputs": {"pvcManaged": {"size": "1Gi"}},
        "allowOnline": True,
        "allowCodeExecution": False,
        "pod": {"container": {}},
    }


def test_a_server_by_its_url_under_another_name():
    made = spec({"name": "m", "url": "https://m.example.com/", "served_name": "org/m"}, found=[])
    assert arguments(made)["base_url"] == "https://m.example.com/v1/completions"
    assert arguments(made)["model"] == "org/m"
    assert arguments(spec({"name": "m", "url": "https://m.example.com"}, found=[]))["model"] == "m"


def test_models_whose_address_is_not_known_are_left_out():
    unknown = [{**FOUND[0], "url": None}]
    assert _lm_eval_spec.evaluations([FULL], [ARC], SETTINGS, unknown) == []
    assert _lm_eval_spec.evaluations([{**FULL, "namespace": "other"}], [ARC], SETTINGS, FOUND) == []
    assert _lm_eval_spec.evaluations([{"name": "m", "inference_service": "mistral-24b"}], [ARC], SETTINGS, FOUND)


def test_a_served_name_that_is_given_goes_before_what_the_cluster_says():
    assert arguments(spec({**FULL, "served_name": "adapter"}))["model"] == "adapter"


def test_a_chat_model():
    made = spec({**FULL, "chat": True})
    assert (made["model"], made["chatTemplate"]) == ("local-chat-completions", {"enabled": True})
    assert arguments(made)["base_url"].endswith("/v1/chat/completions")
    assert spec({**FULL, "chat": True}, {**ARC, "chat": False})["model"] == "local-completions"


def test_settings_of_a_task_go_before_those_of_all():
    task = {**ARC, "limit": 0.25, "few_shot": 0, "batch_size": "auto", "generation_arguments": {"temperature": 0.5}, "code_execution": True}
    everything = {"few_shot": 5, "batch_size": 8, "generation_arguments": {"temperature": 0, "max_gen_toks": 32}}
    made = spec(task=task, **everything)
    assert (made["limit"], made["numFewShot"], made["batchSize"], made["allowCodeExecution"]) == ("0.25", 0, "auto", True)
    assert made["genArgs"] == [{"name": "temperature", "value": "0.5"}, {"name": "max_gen_toks", "value": "32"}]
    assert (spec(**everything)["numFewShot"], spec(**everything)["batchSize"]) == (5, "8")
    assert "numFewShot" not in spec(few_shot="") and "limit" not in spec(limit=None)


def test_arguments_of_a_model_go_before_those_of_all():
    made = arguments(spec({**FULL, "arguments": {"max_length": 4096}}, model_arguments={"max_length": 1, "num_concurrent": 4}))
    assert (made["max_length"], made["num_concurrent"]) == ("4096", "4")


@pytest.mark.parametrize(
    ("model", "task", "settings", "online"),
    [
        (FULL, ARC, {}, True),
        (FULL, ARC, {"online": False}, False),
        (FULL, LOCAL, {}, False),
        ({**FULL, "tokenizer": "mistralai/Mistral"}, LOCAL, {}, True),
        ({**FULL, "tokenizer": "/opt/tokenizer"}, LOCAL, {}, False),
        (FULL, {**LOCAL, "online": True}, {"online": False}, True),
    ],
)
def test_online_access_is_asked_for_only_where_it_is_needed(model, task, settings, online):
    assert spec(model, task, **settings)["allowOnline"] is online


def test_what_is_mounted_and_secrets_by_reference():
    model = {**FULL, "tokenizer_config_map": "bpe", "ca_config_map": "ca", "key_secret": {"name": "s", "key": "k"}}
    made = spec(model, LOCAL, secrets={"HF_TOKEN": {"name": "hf", "key": "token"}}, resources={"limits": {"memory": "4Gi"}})
    assert arguments(made)["tokenizer"] == "/opt/app-root/src/tokenizer"
    assert made["pod"] == {
        "container": {
            "env": [
                {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
                {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "REQUESTS_CA_BUNDLE", "value": "/etc/evaluation-ca/service-ca.crt"},
                {"name": "SSL_CERT_FILE", "value": "/etc/evaluation-ca/service-ca.crt"},
            ],
            "volumeMounts": [
                {"name": "tasks", "mountPath": "/opt/app-root/src/my_tasks/my-tasks", "readOnly": True},
                {"name": "tokenizer", "mountPath": "/opt/app-root/src/tokenizer", "readOnly": True},
                {"name": "ca", "mountPath": "/etc/evaluation-ca", "readOnly": True},
            ],
            "resources": {"limits": {"memory": "4Gi"}},
        },
        "volumes": [
            {"name": "tasks", "configMap": {"name": "my-tasks"}},
            {"name": "tokenizer", "configMap": {"name": "bpe"}},
            {"name": "ca", "configMap": {"name": "ca"}},
        ],
    }


def test_tasks_of_git_and_data_offline():
    made = spec(task={"name": "t", "git": {"url": "https://g", "path": "tasks"}}, offline={"pvcName": "data"})
    assert made["taskList"]["customTasks"] == {"source": {"git": {"url": "https://g", "path": "tasks"}}}
    assert made["offline"] == {"storage": {"pvcName": "data"}}


S3 = {"path": "p", "bucket": {"name": "s3", "key": "b"}, "caBundle": {"name": "authorities", "key": "ca.crt"}}


def test_what_must_exist():
    models = [{**FULL, "key_secret": {"name": "s", "key": "k"}, "tokenizer_config_map": "bpe"}]
    settings = {"secrets": {"HF_TOKEN": {"name": "hf", "key": "token"}}, "offline": {"s3": S3}}
    assert _lm_eval_spec.secrets(models, settings) == [
        {"name": "s", "key": "k", "of": "lmeval_models: mistral-24b"},
        {"name": "hf", "key": "token", "of": "lmeval_secrets: HF_TOKEN"},
        {"name": "s3", "key": "b", "of": "lmeval_offline_s3: bucket"},
    ]
    assert _lm_eval_spec.config_maps(models, [ARC, LOCAL], settings) == [
        {"name": "my-tasks", "of": "lmeval_tasks: mine"},
        {"name": "bpe", "of": "lmeval_models: tokenizer_config_map of mistral-24b"},
        {"name": "authorities", "of": "lmeval_offline_s3: caBundle"},
    ]
    assert _lm_eval_spec.queries([FULL, {"name": "x", "url": "http://x"}, {"name": "y", "inference_service": "z", "namespace": "n"}], "demo") == [
        {"name": "mistral-24b", "namespace": "demo"},
        {"name": "z", "namespace": "n"},
    ]
    assert {name: len(found) for name, found in _lm_eval_spec.needs(models, [ARC, LOCAL], {**settings, "namespace": "demo"}).items()} == {
        "secrets": 3,
        "config_maps": 3,
        "inference_services": 1,
    }


@pytest.mark.parametrize(
    ("model", "task", "name"),
    [("mistral-24b", "arc_easy", "mistral-24b-arc-easy"), ("m", "truthfulqa_mc2", "m-truthfulqa-mc2"), ("a.b", "t", "a-b-t")],
)
def test_names_of_jobs(model, task, name):
    assert _lm_eval_spec.job_name(model, task) == name


def test_names_that_had_to_be_changed_stay_apart():
    names = {_lm_eval_spec.job_name(model, "t") for model in ("a/b", "a:b", "a" * 60, "a" * 61, "é")}
    assert len(names) == 5
    assert all(len(name) <= LONGEST_NAME and name.isascii() and name == name.lower() for name in names)
