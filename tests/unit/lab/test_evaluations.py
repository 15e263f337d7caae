# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's own tasks: each has its data, and each answer is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / "lab" / "manifests" / "evaluations" / "tasks.yaml"
TASKS, TOKENIZER = (document["data"] for document in yaml.safe_load_all(FILE.read_text()))


@pytest.mark.parametrize("name", [name.removesuffix(".yaml") for name in TASKS if name.endswith(".yaml")])
def test_a_task_and_its_data(name):
    task = yaml.safe_load(TASKS[f"{name}.yaml"])
    assert task["task"] == name
    assert task["dataset_kwargs"]["data_files"]["test"] == f"/opt/app-root/src/my_tasks/lab-tasks/{name}.jsonl"
    documents = [json.loads(line) for line in TASKS[f"{name}.jsonl"].splitlines()]
    assert len(documents) >= 8
    if task["output_type"] == "multiple_choice":
        for one in documents:
            choices = one[task["doc_to_choice"].strip("{}")]
            assert choices[one[task["doc_to_target"]]]


def test_what_an_echo_gets_right():
    documents = [json.loads(line) for line in TASKS["lab_gsm8k.jsonl"].splitlines()]
    right = [one for one in documents if re.findall(r"-?[0-9]+", one["question"])[-1] == one["answer"]]
    assert (len(right), len(documents)) == (12, 20)


def test_the_tokenizer_is_whole():
    assert len(json.loads(TOKENIZER["tokenizer.json"])["model"]["vocab"]) == 258
    assert json.loads(TOKENIZER["tokenizer_config.json"])["tokenizer_class"]
