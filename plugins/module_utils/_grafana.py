# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Read from Grafana's HTTP API as its own front end does, with no more rights than a viewer has.

Data sources are read from the front end's settings, which every user may see, not from ``/api/datasources``, which wants an administrator.
"""

from __future__ import annotations

import base64
import json
import typing as t
from urllib.parse import quote

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import DataSource, Lookup, Outcome, Range
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer, Http, Link, Unreachable

REQUEST_SECONDS = 35.0
"""Most that one request may take: Grafana itself gives its data sources 30 s."""


class GrafanaError(ModelMonitoringError):
    """Grafana did not answer a question. ``hopeless``: asking again does not help."""

    def __init__(self, message: str, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class Credentials(t.NamedTuple):
    """A user's name and password, or a service account's token; nothing of it for an anonymous viewer."""

    username: str | None = None
    password: str | None = None
    token: str | None = None

    def headers(self) -> dict[str, str]:
        """:raises ModelMonitoringError: they cannot be sent in a header. The message does not hold them."""
        if self.token:
            if not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
                raise ModelMonitoringError("grafana_token: it has a space, a line break or a character beyond ASCII: correct it")
            return {"Authorization": f"Bearer {self.token}"}
        if self.username is None:
            return {}
        if ":" in self.username:
            raise ModelMonitoringError("grafana_username: it has a colon, which HTTP does not allow: correct it")
        pair = f"{self.username}:{self.password or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def credentials_in(kube: Kube, namespace: str, name: str, username_key: str, password_key: str) -> Credentials:
    """User name and password of a Secret.

    :raises ModelMonitoringError: it cannot be read, or has no such keys.
    """
    what = f"read Secret {name} in namespace {namespace}"
    try:
        data = kube.get(f"/api/v1/namespaces/{namespace}/secrets/{name}", what).get("data") or {}
    except KubeError as error:
        if error.status == 404:
            raise ModelMonitoringError(
                f"grafana_secret: there is no Secret {name} in namespace {namespace}: correct its name and namespace"
            ) from error
        raise
    missing = [key for key in (username_key, password_key) if key not in data]
    if missing:
        there = ", ".join(sorted(data)) or "none"
        raise ModelMonitoringError(
            f"grafana_secret: Secret {name} in namespace {namespace} has no key {' and '.join(missing)} (its keys: {there}): name the right ones"
        )
    username, password = (base64.b64decode(data[key]).decode() for key in (username_key, password_key))
    return Credentials(username, password)


class Grafana:
    """A Grafana server.

    :param link: where it is.
    :param credentials: of an account with the role Viewer or more; an administrator's work too.
    """

    def __init__(self, link: Link[Http], credentials: Credentials) -> None:
        self._link = link
        self._headers = {"Accept": "application/json", **credentials.headers()}
        self.anonymous = not (credentials.token or credentials.username)

    def dashboard(self, uid: str) -> t.Mapping[str, t.Any]:
        """A dashboard's JSON.

        :raises GrafanaError: there is none of this UID, or it cannot be read.
        """
        answer = self._send("GET", f"/api/dashboards/uid/{quote(uid, safe='')}")
        if answer.status == 404:
            raise GrafanaError(f"Grafana has no dashboard with the UID '{uid}': import it, or correct the UID")
        return _dashboard.check(self._json(answer, f"dashboard '{uid}'").get("dashboard"), f"dashboard '{uid}'")

    def folder(self, name: str) -> list[str]:
        """UIDs of the dashboards in a folder, given by title or UID.

        :raises GrafanaError: there is no such folder, or no dashboard in it.
        """
        folders = self._found("dash-folder")
        wanted = [one for one in folders if name in (one.get("uid"), one.get("title"))]
        if not wanted:
            there = ", ".join(sorted(f"'{one.get('title')}'" for one in folders)) or "none"
            raise GrafanaError(f"Grafana has no folder '{name}' (it has: {there}): correct its title or UID")
        inside = [str(one["uid"]) for one in self._found("dash-db") if one.get("folderUid") == wanted[0]["uid"]]
        if not inside:
            raise GrafanaError(f"folder '{name}' holds no dashboard: import one, or correct the folder")
        return inside

    def _found(self, kind: str) -> list[dict[str, t.Any]]:
        answer = self._send("GET", "/api/search", query={"type": kind, "limit": 5000})
        return t.cast("list[dict[str, t.Any]]", self._json(answer, "search", list))

    def data_sources(self) -> list[DataSource]:
        """The data sources that a dashboard may use.

        :raises GrafanaError: they cannot be read.
        """
        settings = self._json(self._send("GET", "/api/frontend/settings"), "its settings")
        first = settings.get("defaultDatasource")
        return [
            DataSource(str(one["uid"]), str(one.get("type")), str(name), bool(one.get("isDefault")) or name == first, one.get("jsonData") or {})
            for name, one in (settings.get("datasources") or {}).items()
            if one.get("uid") and not str(one["uid"]).startswith("-- ") and one.get("type") != "grafana"
        ]

    def run(self, queries: t.Sequence[t.Mapping[str, t.Any]], asked: Range) -> dict[str, Outcome]:
        """Run a panel's queries in one request, as the front end does.

        :param queries: with refId, datasource (type and uid), intervalMs and maxDataPoints.
        :return: what each gave, by refId; no answer of Grafana's is an error of each.
        :raises GrafanaError: Grafana does not accept the credentials.
        """
        refs = [str(query["refId"]) for query in queries]
        body = json.dumps({"queries": list(queries), "from": str(asked.start), "to": str(asked.end)}).encode()
        try:
            answer = self._send("POST", "/api/ds/query", body=body)
        except GrafanaError as exc:
            if exc.hopeless:
                raise
            return {ref: Outcome(_dashboard.ERROR, str(exc)) for ref in refs}
        return _dashboard.judge_answer(answer.status, answer.body, {str(query["refId"]): _since(query, asked) for query in queries})

    def search(self, source: DataSource, traceql: str, limit: int, per_trace: int, asked: Range, spans: bool = False) -> Outcome:
        """Search traces through the proxy of a Tempo data source: Grafana's backend has no such query, its front end does the same.

        :param per_trace: spans of a trace that come back.
        :param spans: whether spans count, or traces.
        """
        query = {"q": traceql, "limit": limit, "spss": per_trace, "start": asked.start // 1000, "end": -(-asked.end // 1000)}
        try:
            answer = self._send("GET", f"/api/datasources/proxy/uid/{quote(source.uid, safe='')}/api/search", query=query)
        except GrafanaError as exc:
            if exc.hopeless:
                raise
            return Outcome(_dashboard.ERROR, str(exc))
        return _dashboard.judge_search(answer.status, answer.body, spans)

    def values(self, source: DataSource, lookup: Lookup, asked: Range) -> list[str]:
        """What a variable's query finds.

        :raises GrafanaError: it cannot be asked, with the data source's own words.
        """
        times = {"start": asked.start // 1000, "end": -(-asked.end // 1000)}
        match = {"match[]": lookup.expr} if lookup.expr else {}
        if lookup.kind == "label_values":
            return self._resource(source, f"/api/v1/label/{quote(lookup.label, safe='')}/values", {**match, **times})
        if lookup.kind == "label_names":
            return self._resource(source, "/api/v1/labels", {**match, **times})
        if lookup.kind == "metrics":
            found = self._resource(source, "/api/v1/label/__name__/values", times)
            pattern = _dashboard.query_options(found, f"/{lookup.expr}/", 0)
            return [one.value for one in pattern]
        if lookup.kind == "series":
            return [_dashboard.series_text(one) for one in self._resource(source, "/api/v1/series", {**match, **times})]
        outcome = self.run([instant("A", source, lookup.expr)], asked)["A"]
        if outcome.state == _dashboard.ERROR:
            raise GrafanaError(outcome.text, outcome.hopeless)
        return _dashboard.result_texts(outcome.frames)

    def _resource(self, source: DataSource, path: str, query: t.Mapping[str, t.Any]) -> list[t.Any]:
        answer = self._send("GET", f"/api/datasources/uid/{quote(source.uid, safe='')}/resources{path}", query=query)
        if answer.status != 200:
            raise GrafanaError(f"data source {source.name} answers {answer.status} {_words(answer)}", answer.status in _dashboard.HOPELESS)
        return list(self._json(answer, f"data source {source.name}").get("data") or [])

    def _send(self, method: str, path: str, *, query: t.Mapping[str, t.Any] | None = None, body: bytes | None = None) -> Answer:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        try:
            answer = self._link.use(lambda http: http.request(method, path, timeout=REQUEST_SECONDS, headers=headers, query=query, body=body))
        except Unreachable as exc:
            raise GrafanaError(f"Grafana is not reachable at {exc}") from exc
        # A data source's own 401 comes through the proxy and the resources with the same status: there it is the data source's words that count.
        if answer.status == 401 and "/api/datasources/" not in path:
            if self.anonymous:
                raise GrafanaError("Grafana wants a log-in (401): give grafana_secret, grafana_username and grafana_password, or grafana_token", True)
            raise GrafanaError(f"Grafana does not accept the credentials (401 {_words(answer)}): correct them", True)
        if answer.status == 403 and path in ("/api/ds/query", "/api/frontend/settings", "/api/search"):
            raise GrafanaError(f"Grafana does not allow this account to read (403 {_words(answer)}): give it the role Viewer", True)
        return answer

    @staticmethod
    def _json(answer: Answer, what: str, kind: type = dict) -> t.Any:
        """The answer as what it should be.

        :raises GrafanaError: it is an error, or something else than Grafana answers.
        """
        if answer.status != 200:
            raise GrafanaError(f"Grafana does not give {what}: {answer.status} {_words(answer)}", answer.status in _dashboard.HOPELESS)
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise GrafanaError(f"what answers is not Grafana (for {what} it says '{answer.text[:80]}'): correct grafana_endpoint", True)
        return found


def _since(query: t.Mapping[str, t.Any], asked: Range) -> float | None:
    """After when a query of Prometheus must have a value, in milliseconds since 1970."""
    if (query.get("datasource") or {}).get("type") != "prometheus":
        return None
    return asked.end - max(_dashboard.CURRENT, 2 * query.get("intervalMs", 0))


def instant(ref: str, source: DataSource, expr: str) -> dict[str, t.Any]:
    """A PromQL query of the newest values."""
    return {
        "refId": ref,
        "datasource": {"type": source.type, "uid": source.uid},
        "expr": expr,
        "instant": True,
        "range": False,
        "format": "time_series",
        "intervalMs": 15000,
        "maxDataPoints": 100,
    }


def _words(answer: Answer) -> str:
    """An error's own words."""
    try:
        found = json.loads(answer.body)
        return " ".join(str(found.get("message") or found.get("error") or answer.text).split())
    except (ValueError, AttributeError):
        return answer.text
