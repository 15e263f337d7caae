# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The requests that go to Grafana, and what is made of its answers."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard, _grafana
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import DataSource, Lookup, Range
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._grafana import Credentials, Grafana, GrafanaError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer, Unreachable

PROMETHEUS, TEMPO = DataSource("p", "prometheus", "Prometheus"), DataSource("t/1", "tempo", "Tempo")
ASKED = Range(1_000_000, 2_000_500)
SECRET = "s3cr3t-p4ss"


class FakeLink:
    """A link to a server with one answer; keeps the requests."""

    def __init__(self, body: object = b"", status: int = 200, error: str = "") -> None:
        self.answer = Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), {})
        self.error = error
        self.requests: list[tuple] = []

    def use(self, work):
        if self.error:
            raise Unreachable(self.error)
        return work(self)

    def request(self, method, path, **more):
        self.requests.append((method, path, more))
        return self.answer


def grafana(link: FakeLink, credentials: Credentials | None = None) -> Grafana:
    return Grafana(link, Credentials("admin", SECRET) if credentials is None else credentials)


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (Credentials("admin", "p:w"), "Basic " + base64.b64encode(b"admin:p:w").decode()),
        (Credentials("ädmin", "pä"), "Basic " + base64.b64encode("ädmin:pä".encode()).decode()),
        (Credentials(token="glsa_x"), "Bearer glsa_x"),
        (Credentials(), None),
    ],
)
def test_credentials_go_into_the_header(credentials, header) -> None:
    link = FakeLink({"dashboard": {"panels": []}})
    grafana(link, credentials).dashboard("x")
    assert link.requests[0][2]["headers"].get("Authorization") == header


@pytest.mark.parametrize(
    "credentials", [Credentials(token=f"{SECRET}\n"), Credentials(token=f"{SECRET} x"), Credentials(token=f"{SECRET}é"), Credentials("a:b", SECRET)]
)
def test_credentials_that_no_header_can_hold_are_told_without_showing_them(credentials) -> None:
    with pytest.raises(ModelMonitoringError, match="grafana_(token|username)") as error:
        grafana(FakeLink(), credentials)
    assert SECRET not in str(error.value)


class FakeKube:
    def __init__(self, data: dict | None) -> None:
        self.data = data

    def get(self, path, what):
        if self.data is None:
            raise KubeError(f"Cannot {what}: not found", status=404)
        assert path == "/api/v1/namespaces/n/secrets/s"
        return {"data": self.data}


def test_credentials_of_a_secret() -> None:
    data = {"u": base64.b64encode(b"admin").decode(), "p": base64.b64encode(SECRET.encode()).decode()}
    assert _grafana.credentials_in(FakeKube(data), "n", "s", "u", "p") == Credentials("admin", SECRET)
    with pytest.raises(ModelMonitoringError, match=r"no key q \(its keys: p, u\)") as error:
        _grafana.credentials_in(FakeKube(data), "n", "s", "u", "q")
    assert SECRET not in str(error.value)
    with pytest.raises(ModelMonitoringError, match="no Secret s in namespace n"):
        _grafana.credentials_in(FakeKube(None), "n", "s", "u", "p")


@pytest.mark.parametrize(
    ("link", "words", "hopeless"),
    [
        (FakeLink(status=404), "no dashboard with the UID 'x'", False),
        (FakeLink({"message": "Invalid username or password"}, 401), "does not accept the credentials (401 Invalid username or password)", True),
        (FakeLink(b"boom", 500), "500 boom", False),
        (FakeLink(b"<html>hello</html>"), "what answers is not Grafana", True),
        (FakeLink([1]), "what answers is not Grafana", True),
        (FakeLink(error="http://g:3000: refused"), "not reachable at http://g:3000: refused", False),
    ],
)
def test_a_dashboard_that_cannot_be_read(link, words, hopeless) -> None:
    with pytest.raises(GrafanaError) as error:
        grafana(link).dashboard("x")
    assert words in str(error.value) and SECRET not in str(error.value)
    assert error.value.hopeless is hopeless


def test_a_dashboard_without_panels_is_none() -> None:
    with pytest.raises(_dashboard.DashboardError, match="dashboard 'x': its JSON is not a dashboard"):
        grafana(FakeLink({"dashboard": {"title": "no"}})).dashboard("x")


def test_an_anonymous_viewer_is_told_how_to_log_in() -> None:
    with pytest.raises(GrafanaError, match="wants a log-in") as error:
        grafana(FakeLink({}, 401), Credentials()).dashboard("x")
    assert error.value.hopeless


class Folders(FakeLink):
    def request(self, method, path, **more):
        self.requests.append((method, path, more))
        folders = [{"uid": "f1", "title": "Model monitoring"}, {"uid": "f2", "title": "Empty"}]
        inside = [{"uid": "a", "folderUid": "f1"}, {"uid": "b"}, {"uid": "c", "folderUid": "f1"}]
        return Answer(200, json.dumps(folders if more["query"]["type"] == "dash-folder" else inside).encode(), {})


@pytest.mark.parametrize("name", ["f1", "Model monitoring"])
def test_dashboards_of_a_folder(name) -> None:
    assert grafana(Folders()).folder(name) == ["a", "c"]


@pytest.mark.parametrize(("name", "words"), [("f2", "holds no dashboard"), ("other", "no folder 'other' (it has: 'Empty', 'Model monitoring')")])
def test_folders_without_dashboards(name, words) -> None:
    with pytest.raises(GrafanaError) as error:
        grafana(Folders()).folder(name)
    assert words in str(error.value)


def test_data_sources_are_those_of_the_front_end() -> None:
    settings = {
        "defaultDatasource": "Prom",
        "datasources": {
            "Prom": {"uid": "p", "type": "prometheus", "isDefault": True, "jsonData": {"timeInterval": "15s"}},
            "Tempo": {"uid": "t", "type": "tempo", "jsonData": None},
            "-- Grafana --": {"uid": "grafana", "type": "grafana"},
            "-- Mixed --": {"uid": "-- Mixed --", "type": "mixed"},
            "old": {"type": "x"},
        },
    }
    assert grafana(FakeLink(settings)).data_sources() == [
        DataSource("p", "prometheus", "Prom", True, {"timeInterval": "15s"}),
        DataSource("t", "tempo", "Tempo", False, {}),
    ]


def test_queries_go_in_one_request() -> None:
    link = FakeLink({"results": {"A": {"frames": []}}})
    found = grafana(link).run([{"refId": "A", "expr": "up"}, {"refId": "B"}], ASKED)
    method, path, more = link.requests[0]
    assert (method, path) == ("POST", "/api/ds/query")
    assert json.loads(more["body"]) == {"queries": [{"refId": "A", "expr": "up"}, {"refId": "B"}], "from": "1000000", "to": "2000500"}
    assert set(found) == {"A", "B"}


def test_no_answer_is_an_error_of_each_query() -> None:
    found = grafana(FakeLink(error="http://g:3000: refused")).run([{"refId": "A"}, {"refId": "B"}], ASKED)
    assert {one.state for one in found.values()} == {"error"} and "refused" in found["B"].text


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_ends_everything(status) -> None:
    with pytest.raises(GrafanaError) as error:
        grafana(FakeLink({"message": "no"}, status)).run([{"refId": "A"}], ASKED)
    assert error.value.hopeless


def test_traces_are_searched_through_the_proxy() -> None:
    link = FakeLink({"traces": [{"traceID": "1"}]})
    assert grafana(link).search(TEMPO, "{ }", 20, 3, ASKED).series == 1
    method, path, more = link.requests[0]
    assert (method, path) == ("GET", "/api/datasources/proxy/uid/t%2F1/api/search")
    assert more["query"] == {"q": "{ }", "limit": 20, "spss": 3, "start": 1000, "end": 2001}


@pytest.mark.parametrize("status", [401, 403, 502])
def test_a_refusal_of_the_data_source_is_its_own_error(status) -> None:
    """Grafana's proxy hands the status of the data source on: that is no refusal of Grafana's."""
    outcome = grafana(FakeLink(b"no tenant", status)).search(TEMPO, "{ }", 20, 3, ASKED)
    assert outcome.state == "error" and f"{status} no tenant" in outcome.text


@pytest.mark.parametrize(
    ("lookup", "path", "query"),
    [
        (Lookup("label_values", "job", "up"), "/api/v1/label/job/values", {"match[]": "up"}),
        (Lookup("label_values", "job"), "/api/v1/label/job/values", {}),
        (Lookup("label_names"), "/api/v1/labels", {}),
    ],
)
def test_values_of_a_variable(lookup, path, query) -> None:
    link = FakeLink({"status": "success", "data": ["a", "b"]})
    assert grafana(link).values(PROMETHEUS, lookup, ASKED) == ["a", "b"]
    assert link.requests[0][1] == f"/api/datasources/uid/p/resources{path}"
    assert link.requests[0][2]["query"] == {**query, "start": 1000, "end": 2001}


def test_other_kinds_of_variables() -> None:
    assert grafana(FakeLink({"data": ["vllm:a", "up"]})).values(PROMETHEUS, Lookup("metrics", expr="vllm.*"), ASKED) == ["vllm:a"]
    assert grafana(FakeLink({"data": [{"__name__": "up", "a": "1"}]})).values(PROMETHEUS, Lookup("series", expr="up"), ASKED) == ['up{a="1"}']
    frames = [{"schema": {"fields": [{"type": "time"}, {"type": "number", "labels": {"a": "1"}}]}, "data": {"values": [[5], [7]]}}]
    link = FakeLink({"results": {"A": {"frames": frames}}})
    assert grafana(link).values(PROMETHEUS, Lookup("query_result", expr="up"), ASKED) == ['{a="1"} 7 5']


def test_values_that_cannot_be_had_are_told_in_the_data_sources_words() -> None:
    with pytest.raises(GrafanaError, match="data source Prometheus answers 502 dial tcp: connection refused"):
        grafana(FakeLink({"message": "dial tcp: connection refused"}, 502)).values(PROMETHEUS, Lookup("label_values", "job"), ASKED)
