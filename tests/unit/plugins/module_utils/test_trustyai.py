# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Metric requests of TrustyAI's service, on a service of dictionaries."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _trustyai
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._trustyai import Service, Wanted
from ansible_collections.private_ai.model_monitoring.plugins.modules import trustyai_metric_requests

SPD = Wanted("spd", {"modelId": "loans", "protectedAttribute": "gender"})
DRIFT = Wanted("meanshift", {"modelId": "loans", "referenceTag": "TRAINING"})


class Server:
    """As TrustyAI's service answers: it completes what it was asked, and knows requests by ids of its own."""

    def __init__(self, refuse=None):
        self.there, self.refuse, self.asked = {}, refuse, []

    def use(self, work):
        return work(self)

    def request(self, method, path, *, timeout, headers, body):
        content = json.loads(body) if body else None
        self.asked.append((method, path))
        if method == "GET":
            return self.answer(200, {"requests": [{"id": key, "request": request} for key, request in self.there.items()]})
        if self.refuse:
            return self.answer(*self.refuse)
        if method == "POST":
            number = f"id-{len(self.asked)}"
            metric = path.split("/")[-2].upper()
            self.there[number] = {**content, "metricName": metric, "batchSize": 100, "@type": "GroupMetricRequest"}
            return self.answer(200, {"requestId": number})
        del self.there[content["requestId"]]
        return self.answer(200, {})

    @staticmethod
    def answer(status, body):
        return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), {})


def apply(server, *wanted, dry=False):
    return _trustyai.apply(Service(server, "http://t"), wanted, dry)


def test_they_are_asked_for_once():
    server = Server()
    assert apply(server, SPD, DRIFT) == {"changed": True, "created": [SPD.name, DRIFT.name], "deleted": [], "pending": []}
    assert server.asked[1:] == [("POST", "/metrics/group/fairness/spd/request"), ("POST", "/metrics/drift/meanshift/request")]
    assert not apply(server, DRIFT, SPD)["changed"]


def test_what_is_not_wanted_any_more_is_taken_back_and_what_is_others_stays():
    server = Server()
    apply(server, SPD)
    server.there |= {"theirs": {"requestName": "mine", "metricName": "SPD"}, "unnamed": {"metricName": "DIR"}}
    changed = Wanted("spd", {**SPD.request, "batchSize": 5})
    found = apply(server, changed)
    assert found["deleted"] == ["id-2"] and found["created"] == [changed.name]
    assert ("DELETE", "/metrics/group/fairness/spd/request") in server.asked
    assert {"theirs", "unnamed"} < set(server.there)
    assert apply(server)["changed"] and set(server.there) == {"theirs", "unnamed"}


def test_a_name_does_not_depend_on_the_order():
    assert Wanted("spd", dict(reversed(SPD.request.items()))).name == SPD.name != Wanted("dir", SPD.request).name


def test_check_mode():
    server = Server()
    apply(server, SPD)
    server.asked.clear()
    found = apply(server, DRIFT, dry=True)
    assert (found["changed"], found["created"], found["deleted"]) == (True, [DRIFT.name], ["id-2"])
    assert server.asked == [("GET", "/metrics/all/requests")]


@pytest.mark.parametrize("status", [400, 404])
def test_a_model_that_has_not_been_asked_yet(status):
    found = apply(Server((status, b"No metadata found for model=loans")), SPD)
    assert found == {
        "changed": False,
        "created": [],
        "deleted": [],
        "pending": [{"metric": "spd", "name": SPD.name, "reason": "No metadata found for model=loans"}],
    }
    documented = yaml.safe_load(trustyai_metric_requests.RETURN)
    assert documented.keys() == found.keys() - {"changed"} and documented["pending"]["contains"].keys() == found["pending"][0].keys()


def test_a_service_that_fails():
    with pytest.raises(ModelMonitoringError, match="http://t: the request for spd was answered 500"):
        apply(Server((500, b"boom")), SPD)
    server = Server()
    apply(server, SPD)
    server.refuse = (500, b"boom")
    with pytest.raises(ModelMonitoringError, match="request id-2 could not be taken back: 500"):
        apply(server)
    server.refuse = (404, b"gone")
    assert apply(server)["changed"]


def test_what_is_no_trustyai_service():
    class Other(Server):
        def request(self, method, path, **kwargs):
            return self.answer(200, b"<html>")

    with pytest.raises(ModelMonitoringError, match="http://t/metrics/all/requests answered 200 .<html>.: correct the endpoint"):
        apply(Other(), SPD)


def test_a_metric_that_is_not_known_is_left_alone():
    there = [{"id": "a", "request": {"requestName": "model-monitoring-x", "metricName": "IDENTITY"}}, {"id": "b"}]
    assert _trustyai.plan([], there).delete == []
