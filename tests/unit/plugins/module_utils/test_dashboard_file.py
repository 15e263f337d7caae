# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is a dashboard, and what is said about what is none."""

from __future__ import annotations

import base64
import gzip
import json
import random

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard_file
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard_file import content
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

GOOD = {"uid": "my-dashboard_1", "title": "Mine", "panels": []}


def test_a_dashboard_goes_as_it_is():
    text = json.dumps(GOOD, indent=2)
    assert content(text, "x.json") == {"uid": "my-dashboard_1", "title": "Mine", "spec": {"json": text}}


def test_a_large_one_is_compressed_and_the_same_every_time():
    text = json.dumps({**GOOD, "description": "ä" * _dashboard_file.PLAIN_BYTES})
    (spec,) = {json.dumps(content(text, "x.json")["spec"]) for _ in range(3)}
    assert gzip.decompress(base64.b64decode(json.loads(spec)["gzipJson"])).decode() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"x.json is not JSON \(Expecting .*\): correct it, or leave the file out"),
        ("[]", "x.json is not a dashboard: give the JSON of one, which has a list of panels"),
        ('{"apiVersion": "v1", "kind": "ConfigMap"}', "x.json is not a dashboard"),
        ('{"elements": {}, "layout": {}, "title": "t", "uid": "u"}', "x.json is not a dashboard"),
        (json.dumps({"meta": {}, "dashboard": GOOD}), "is an answer of Grafana's API: take what is in its field 'dashboard'"),
        (json.dumps({**GOOD, "title": " "}), "has no title: give it one"),
        (json.dumps({**GOOD, "uid": None}), "the dashboard's uid is null: give it one of at most 40 letters"),
        (json.dumps({**GOOD, "uid": "a" * 41}), 'uid is "a{41}"'),
        (json.dumps({**GOOD, "uid": "a/b"}), 'uid is "a/b"'),
        (json.dumps({**GOOD, "__inputs": [{"name": "DS"}]}), r"asks for its data sources at import \(__inputs\)"),
    ],
)
def test_what_is_no_dashboard(text, words):
    with pytest.raises(ModelMonitoringError, match=words):
        content(text, "x.json")


def test_one_that_is_too_large():
    noise = random.Random(0).randbytes(_dashboard_file.MOST_BYTES).hex()
    with pytest.raises(ModelMonitoringError, match="bytes even when compressed, more than the API server takes: split the dashboard"):
        content(json.dumps({**GOOD, "description": noise}), "x.json")
