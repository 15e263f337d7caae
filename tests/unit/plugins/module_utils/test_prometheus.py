# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers of Prometheus' API, good and bad; and where Prometheus is found."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _prometheus as prom
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer, Link, Unreachable

TOKEN = "t0ken"


class Server:
    """An HTTP connection that gives answers by path, and remembers what it was asked."""

    def __init__(self, **answers: Answer | Exception) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict, dict]] = []

    def request(self, method, path, *, headers, query, timeout):
        assert method == "GET" and timeout > 0
        self.asked.append((path, query, headers))
        answer = self.answers[path.removeprefix("/api/v1/")]
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(token: str | None = None, **answers: Answer | Exception) -> tuple[prom.Prometheus, Server]:
    server = Server(**answers)
    return prom.Prometheus(Link("http://p:9090", lambda: contextlib.nullcontext(server)), token), server


def success(data, status: int = 200) -> Answer:
    return Answer(status, json.dumps({"status": "success", "data": data}).encode(), {})


def vector(*samples) -> Answer:
    return success({"resultType": "vector", "result": [{"metric": labels, "value": [1764.2, value]} for labels, value in samples]})


def test_a_vector_is_labels_and_numbers() -> None:
    prometheus, server = client(query=vector(({"__name__": "up", "a": "b"}, "1.5"), ({}, "+Inf"), ({"c": "d"}, "NaN")))
    found = prometheus.query('up{a="b"} == 1')
    assert [dict(one.labels) for one in found] == [{"a": "b"}, {}, {"c": "d"}]
    assert found[0].value == 1.5 and found[1].value == math.inf and math.isnan(found[2].value)
    ((path, query, headers),) = server.asked
    assert (path, query) == ("/api/v1/query", {"query": 'up{a="b"} == 1'}) and "Authorization" not in headers


def test_a_token_is_sent_in_the_header_only() -> None:
    prometheus, server = client(TOKEN, query=vector())
    prometheus.query("up")
    ((path, query, headers),) = server.asked
    assert headers["Authorization"] == f"Bearer {TOKEN}" and TOKEN not in path + str(query)


@pytest.mark.parametrize("token", ["two words", "line\n", "ü"])
def test_a_token_that_is_none_is_refused_without_telling_it(token) -> None:
    with pytest.raises(ModelMonitoringError) as error:
        client(token)
    assert "prometheus_token" in str(error.value) and token not in str(error.value)


def api_error(status: int, kind: str, text: str) -> Answer:
    return Answer(status, json.dumps({"status": "error", "errorType": kind, "error": text}).encode(), {})


@pytest.mark.parametrize(
    ("answer", "hopeless", "words"),
    [
        (Unreachable("Connection refused"), False, ("not reachable at http://p:9090: Connection refused", "prometheus_endpoint")),
        (api_error(400, "bad_data", "parse error at char 3"), True, ("bad_data parse error at char 3", "correct it")),
        (api_error(422, "execution", "many-to-many"), False, ("many-to-many",)),
        (api_error(503, "timeout", "query timed out"), False, ("503 timeout query timed out", "log")),
        (Answer(503, b"Service Unavailable\n", {}), False, ("503 Service Unavailable",)),
        (Answer(401, b"Unauthorized\n", {}), True, ("401 Unauthorized", "prometheus_token", "prometheus_service_account")),
        (Answer(403, b"Forbidden (user=a)\n", {}), True, ("403 Forbidden (user=a)", "cluster-monitoring-view")),
        (Answer(302, b"", {}), True, ("302", "give a token")),
        (Answer(404, b"404 page not found\n", {}), True, ("404 page not found", "without the /api/v1")),
        (Answer(200, b"<html>Grafana</html>", {}), True, ("is not Prometheus': <html>Grafana</html>", "prometheus_endpoint")),
        (Answer(200, b"[]", {}), True, ("is not Prometheus'",)),
        (success({"resultType": "scalar", "result": [1, "1"]}), True, ("gives a scalar and no vector",)),
        (success({"resultType": "vector", "result": [{"metric": {}}]}), True, ("is not Prometheus'",)),
        (success(None), True, ("is not Prometheus'",)),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told_with_the_cure(answer, hopeless, words) -> None:
    prometheus, _server = client(TOKEN, query=answer)
    with pytest.raises(prom.PrometheusError) as error:
        prometheus.query("up")
    assert error.value.hopeless is hopeless
    for word in words:
        assert word in str(error.value)
    assert TOKEN not in str(error.value)


ACTIVE = {
    "activeTargets": [
        {"labels": {"namespace": "a", "service": "s"}, "scrapeUrl": "http://1/metrics", "health": "down", "lastError": "connection\n refused"},
        {"labels": {"namespace": "a", "service": "other"}, "scrapeUrl": "http://2/metrics", "health": "up", "lastError": ""},
        {"labels": {"namespace": "a", "service": "s"}, "scrapeUrl": "http://3/metrics", "health": "unknown"},
    ]
}


def test_targets_are_told_with_their_errors() -> None:
    prometheus, server = client(targets=success(ACTIVE))
    assert prom.scrape_targets(prometheus, {"namespace": "a", "service": "s"}) == [
        prom.ScrapeTarget({"namespace": "a", "service": "s"}, "down", "http://1/metrics", "connection refused"),
        prom.ScrapeTarget({"namespace": "a", "service": "s"}, "unknown", "http://3/metrics", ""),
    ]
    assert server.asked[0][1] == {"state": "active"}


@pytest.mark.parametrize("targets", [Answer(404, b"page not found", {}), success({"activeTargets": None})], ids=["no such API", "knows none"])
def test_targets_come_from_up_where_the_api_does_not_tell_them(targets) -> None:
    prometheus, server = client(targets=targets, query=vector(({"service": "s"}, "1"), ({"service": "s"}, "0")))
    assert [one.health for one in prom.scrape_targets(prometheus, {"namespace": "a", "service": "s"})] == ["up", "down"]
    assert server.asked[-1][1] == {"query": 'up{namespace="a",service="s"}'}


def test_a_prometheus_that_is_down_is_not_asked_twice() -> None:
    prometheus, server = client(targets=Unreachable("refused"))
    with pytest.raises(prom.PrometheusError):
        prom.scrape_targets(prometheus, {})
    assert len(server.asked) == 1


def test_recording_rules_are_told_apart_from_alerts() -> None:
    rules = [
        {"type": "recording", "name": "a:b", "health": "ok"},
        {"type": "recording", "name": "c", "health": "err", "lastError": "many-to-many", "labels": {"q": "1"}},
        {"type": "alerting", "name": "Down", "health": "ok"},
    ]
    prometheus, _server = client(rules=success({"groups": [{"rules": rules}, {"rules": []}]}))
    assert prometheus.recording_rules() == [prom.Rule("a:b", "ok"), prom.Rule("c", "err", "many-to-many", {"q": "1"})]


def test_a_selector_is_quoted() -> None:
    assert prom.selector({"b": 'x"y\\', "a": "ü"}) == '{a="ü",b="x\\"y\\\\"}'


# Where it is


PARAMS = {"prometheus_endpoint": None, "prometheus_token": None, "prometheus_service_account": None, "prometheus_ca_cert": None, "via": "auto"}
PEM = "-----BEGIN CERTIFICATE-----\n…"


class Cluster:
    """An API server: ``objects`` by path. Stands for the API client, too."""

    def __init__(self, objects: dict, bearer: str = "") -> None:
        self.objects, self.asked = objects, []
        self.configuration = self
        self._bearer = bearer

    def auth_settings(self) -> dict:
        return {"BearerToken": {"value": self._bearer}} if self._bearer else {}

    def get(self, path, what):
        self.asked.append(path)
        if path not in self.objects:
            raise KubeError(f"Cannot {what}: not found", status=404)
        return self.objects[path]

    def create(self, path, body, what):
        self.asked.append(path)
        assert body["kind"] == "TokenRequest" and body["spec"]["expirationSeconds"] == 600
        return self.objects[path]


OPENSHIFT = {
    "/api/v1/namespaces/openshift-monitoring/services/thanos-querier": {},
    "/api/v1/namespaces/openshift-monitoring/configmaps/openshift-service-ca.crt": {"data": {"service-ca.crt": PEM}},
    "/api/v1/namespaces/demo/serviceaccounts/reader/token": {"status": {"token": "minted"}},
}


@pytest.fixture
def find(monkeypatch):
    """``find(cluster, **params)``: the access."""
    monkeypatch.setattr(prom._kube, "Kube", lambda api_client: api_client)
    return lambda cluster, **params: prom.access({**PARAMS, **params}, lambda: cluster)


def test_a_given_prometheus_is_taken_as_it_is_and_gets_no_token_of_the_cluster(find) -> None:
    cluster = Cluster(OPENSHIFT, "Bearer admin")
    access = find(cluster, prometheus_endpoint="http://p.monitoring.svc:9090")
    assert (access.target.url, access.target.ca_cert, access.token) == ("http://p.monitoring.svc:9090", None, None)
    assert cluster.asked == []


def test_openshifts_is_found_with_its_ca_and_the_token_of_the_connection(find) -> None:
    access = find(Cluster(OPENSHIFT, "Bearer admin"))
    assert access.target.url == "https://thanos-querier.openshift-monitoring.svc:9091"
    assert (access.target.ca_cert, access.token) == (PEM, "admin")


def test_what_is_given_wins_over_what_is_found(find, tmp_path) -> None:
    (tmp_path / "ca").write_text(PEM)
    access = find(Cluster(OPENSHIFT, "Bearer admin"), prometheus_token="given", prometheus_ca_cert=str(tmp_path / "ca"))
    assert (access.target.ca_cert, access.token) == (str(tmp_path / "ca"), "given")


@pytest.mark.parametrize("endpoint", [None, "https://p.example.com"])
def test_a_token_is_made_for_a_service_account(find, endpoint) -> None:
    access = find(
        Cluster(OPENSHIFT, "Bearer admin"), prometheus_endpoint=endpoint, prometheus_service_account={"name": "reader", "namespace": "demo"}
    )
    assert access.token == "minted"


def test_no_token_is_made_where_one_is_given(find) -> None:
    cluster = Cluster(OPENSHIFT)
    access = find(
        cluster, prometheus_endpoint="https://p", prometheus_token="given", prometheus_service_account={"name": "reader", "namespace": "demo"}
    )
    assert access.token == "given" and cluster.asked == []


def without(*parts: str) -> dict:
    return {path: found for path, found in OPENSHIFT.items() if not path.endswith(parts)}


@pytest.mark.parametrize(
    ("objects", "bearer", "params", "words"),
    [
        ({}, "Bearer a", {}, ("prometheus_endpoint: missing", "no Service thanos-querier", "http://prometheus-operated.monitoring.svc:9090")),
        (OPENSHIFT, "", {}, ("prometheus_token: missing", "client certificate", "prometheus_service_account", "cluster-monitoring-view")),
        (without("service-ca.crt", "openshift-service-ca.crt"), "Bearer a", {}, ("openshift-service-ca.crt",)),
        ({**OPENSHIFT, list(OPENSHIFT)[1]: {"data": {}}}, "Bearer a", {}, ("holds no certificate", "prometheus_ca_cert")),
        ({}, "", {"prometheus_endpoint": "p:9090"}, ("prometheus_endpoint: 'p:9090' has no scheme",)),
        ({}, "", {"prometheus_endpoint": "http://p", "prometheus_ca_cert": "/no/such"}, ("the CA file '/no/such' cannot be read",)),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_told_with_the_cure(find, objects, bearer, params, words) -> None:
    with pytest.raises(ModelMonitoringError) as error:
        find(Cluster(objects, bearer), **params)
    for word in words:
        assert word in str(error.value)


def test_a_ca_file_without_certificate_is_refused(find, tmp_path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(ModelMonitoringError, match="holds no certificate in PEM"):
        find(Cluster({}), prometheus_endpoint="https://p", prometheus_ca_cert=str(tmp_path / "ca"))
