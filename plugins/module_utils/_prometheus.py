# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Read from Prometheus' HTTP API: Prometheus itself, or what speaks its API (Thanos Querier, as OpenShift's, or Mimir).

``Prometheus`` asks; ``access`` finds out, from a module's parameters and the cluster, where it is and what it wants to see.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Http, Link, Target, Unreachable

REQUEST_SECONDS = 20.0
"""Most that one request may take. Thanos asks several stores."""

OPENSHIFT_NAMESPACE, OPENSHIFT_SERVICE, OPENSHIFT_PORT = "openshift-monitoring", "thanos-querier", 9091
"""OpenShift's query API for platform and user workload monitoring together; port 9091 serves all of it to who has cluster-monitoring-view."""

TOKEN_SECONDS = 600
"""For how long a token is asked for. It is the least that the API server gives."""

PROMETHEUS_ARGS: dict[str, dict[str, t.Any]] = {
    "prometheus_endpoint": {"type": "str"},
    "prometheus_token": {"type": "str", "no_log": True},
    "prometheus_service_account": {
        "type": "dict",
        "options": {"name": {"type": "str", "required": True}, "namespace": {"type": "str", "required": True}},
    },
    "prometheus_ca_cert": {"type": "path"},
}
"""Argument spec of every module that reads from Prometheus; documented in the fragment ``prometheus``."""


class PrometheusError(ModelMonitoringError):
    """Prometheus did not answer a question. ``status``: of HTTP, None when there was no answer. ``hopeless``: asking again does not help."""

    def __init__(self, message: str, status: int | None = None, hopeless: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.hopeless = hopeless


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector. ``labels``: without its name."""

    labels: t.Mapping[str, str]
    value: float


@dataclass(frozen=True)
class ScrapeTarget:
    """Something that Prometheus scrapes. ``health``: ``up``, ``down``, or ``unknown`` before the first scrape. ``error``: of the last scrape."""

    labels: t.Mapping[str, str]
    health: str
    url: str = ""
    error: str = ""


@dataclass(frozen=True)
class Rule:
    """A recording rule. ``health``: ``ok``, ``err``, or ``unknown`` before the first evaluation. ``error``: of the last evaluation."""

    name: str
    health: str
    error: str = ""
    labels: t.Mapping[str, str] = field(default_factory=dict)


class Prometheus:
    """The query API.

    :param link: where it is.
    :param token: bearer token; None without authentication.
    :raises ModelMonitoringError: the token cannot be sent in a header. The message does not hold it.
    """

    def __init__(self, link: Link[Http], token: str | None = None) -> None:
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise ModelMonitoringError("prometheus_token: it has a space, a line break or a character beyond ASCII: correct it")
        self._link = link
        self._headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def query(self, promql: str) -> list[Sample]:
        """The instant vector of a query, now.

        :raises PrometheusError: no answer, a refusal, or a query that is wrong or has no vector as its result.
        """
        data = self._get("query", {"query": promql})
        try:
            if data["resultType"] != "vector":
                raise PrometheusError(f"the query {promql} gives a {data['resultType']} and no vector: correct it", hopeless=True)
            return [
                Sample({name: text for name, text in one["metric"].items() if name != "__name__"}, float(one["value"][1])) for one in data["result"]
            ]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise _strange("query", json.dumps(data)[:200]) from None

    def targets(self) -> list[ScrapeTarget]:
        """All that is scraped now.

        :raises PrometheusError: also where the API has no such thing (404), as Mimir's.
        """
        data = self._get("targets", {"state": "active"})
        try:
            return [
                ScrapeTarget(one["labels"], one["health"].lower(), one.get("scrapeUrl") or "", " ".join((one.get("lastError") or "").split()))
                for one in data["activeTargets"] or ()
            ]
        except (KeyError, TypeError, AttributeError):
            raise _strange("targets", json.dumps(data)[:200]) from None

    def recording_rules(self) -> list[Rule]:
        """All recording rules that are loaded.

        :raises PrometheusError: also where the API has no such thing (404).
        """
        data = self._get("rules", {"type": "record"})
        try:
            return [
                Rule(one["name"], one.get("health") or "unknown", " ".join((one.get("lastError") or "").split()), one.get("labels") or {})
                for group in data["groups"] or ()
                for one in group["rules"]
                if one.get("type") == "recording"
            ]
        except (KeyError, TypeError, AttributeError):
            raise _strange("rules", json.dumps(data)[:200]) from None

    def _get(self, what: str, query: t.Mapping[str, t.Any]) -> t.Any:
        """The ``data`` of an answer; raises PrometheusError."""
        try:
            answer = self._link.use(lambda http: http.request("GET", f"/api/v1/{what}", headers=self._headers, query=query, timeout=REQUEST_SECONDS))
        except Unreachable as exc:
            raise PrometheusError(f"Prometheus is not reachable at {exc}: {_REACH_CURE}") from exc
        try:
            body = json.loads(answer.body)
            if body["status"] == "success" and answer.status == 200:
                return body["data"]
            said = f"{body.get('errorType') or ''} {body.get('error') or ''}".strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            if answer.status == 200:
                raise _strange(what, answer.text) from None
            said = answer.text
        raise refusal(answer.status, said, what)


_REACH_CURE = "see that its pod is Ready and that prometheus_endpoint names its Service and port"


def refusal(status: int, said: str, what: str) -> PrometheusError:
    """The error for an answer that is none.

    :param said: by the server.
    :param what: was asked for: ``query``, ``targets`` or ``rules``.
    """
    text = f"{status} {said}".strip()
    if status == 401 or 300 <= status < 400:
        cure = "give a token (prometheus_token or prometheus_service_account), or renew the one that was given"
    elif status == 403:
        cure = (
            "let the token's user or service account read it (on OpenShift: bind it to ClusterRole cluster-monitoring-view), or correct"
            " prometheus_endpoint if that is no Prometheus"
        )
    elif status == 404:
        cure = f"this is no Prometheus, or its API has no {what}: correct prometheus_endpoint (without the /api/v1)"
    elif status in (400, 422):
        return PrometheusError(f"Prometheus does not take the {what}: {text}: correct it", status, hopeless=status == 400)
    else:
        return PrometheusError(f"Prometheus does not answer the {what}: {text}: see its log", status)
    return PrometheusError(f"Prometheus refuses the {what}: {text}: {cure}", status, hopeless=True)


def _strange(what: str, said: str) -> PrometheusError:
    text = " ".join(said.split())
    return PrometheusError(f"the answer to {what} is not Prometheus': {text}: correct prometheus_endpoint (without the /api/v1)", 200, hopeless=True)


def selector(labels: t.Mapping[str, str]) -> str:
    """Matchers of a PromQL selector: ``{namespace="a",service="b"}``."""
    return "{" + ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(labels.items())) + "}"


def matches(labels: t.Mapping[str, str], wanted: t.Mapping[str, str]) -> bool:
    """Whether all wanted labels are there."""
    return all(labels.get(name) == value for name, value in wanted.items())


def scrape_targets(prometheus: Prometheus, wanted: t.Mapping[str, str]) -> list[ScrapeTarget]:
    """What is scraped with these labels: with URL and last error where the API tells them, else by the metric ``up``.

    :raises PrometheusError: neither can be had.
    """
    try:
        found = [one for one in prometheus.targets() if matches(one.labels, wanted)]
    except PrometheusError as exc:
        if exc.status is None:
            raise
        found = []
    if found:
        return found
    return [ScrapeTarget(one.labels, "up" if one.value == 1 else "down") for one in prometheus.query(f"up{selector(wanted)}")]


@dataclass(frozen=True)
class Access:
    """Where Prometheus is, and the token to show; None without authentication."""

    target: Target
    token: str | None


def described(params: t.Mapping[str, t.Any]) -> str:
    """Where Prometheus is, in words, without asking anybody."""
    return params["prometheus_endpoint"] or f"OpenShift's Service {OPENSHIFT_SERVICE} in namespace {OPENSHIFT_NAMESPACE}"


def check(params: t.Mapping[str, t.Any]) -> None:
    """Look at the parameters without asking anybody.

    :raises ModelMonitoringError: the URL or the CA is not usable.
    """
    if params["prometheus_endpoint"]:
        _target(params, params["prometheus_endpoint"], lambda: None, params["prometheus_ca_cert"]).check()


def access(params: t.Mapping[str, t.Any], api_client: t.Callable[[], t.Any]) -> Access:
    """Where the Prometheus of these parameters is, and what it wants to see.

    Without ``prometheus_endpoint`` it is OpenShift's, if the cluster has it: then its CA is read from the ConfigMap that OpenShift puts into
    every namespace, and the token of the API connection is shown if no other is given. It is shown to nobody else.

    :param api_client: makes a ``kubernetes.client.ApiClient``; called only when one is needed.
    :raises ModelMonitoringError: a parameter is missing or not usable, or the API server refuses what has to be read.
    """
    check(params)
    token = params["prometheus_token"] or None
    account = params["prometheus_service_account"]
    if not token and account:
        token = _requested_token(_kube.Kube(api_client()), account["name"], account["namespace"])
    if params["prometheus_endpoint"]:
        return Access(_target(params, params["prometheus_endpoint"], api_client, params["prometheus_ca_cert"]), token)

    kube = _kube.Kube(api_client())
    base = f"/api/v1/namespaces/{OPENSHIFT_NAMESPACE}"
    try:
        kube.get(f"{base}/services/{OPENSHIFT_SERVICE}", f"get Service {OPENSHIFT_SERVICE} in namespace {OPENSHIFT_NAMESPACE}")
    except _kube.KubeError as exc:
        if exc.status != 404:
            raise
        raise ModelMonitoringError(
            f"prometheus_endpoint: missing, and this cluster is no OpenShift with monitoring (no Service {OPENSHIFT_SERVICE} in namespace"
            f" {OPENSHIFT_NAMESPACE}): give the URL of the Prometheus that scrapes, for example http://prometheus-operated.monitoring.svc:9090"
        ) from exc
    authorities = params["prometheus_ca_cert"] or _service_ca(kube, base)
    if not token:
        token = _connection_token(api_client())
    url = f"https://{OPENSHIFT_SERVICE}.{OPENSHIFT_NAMESPACE}.svc:{OPENSHIFT_PORT}"
    return Access(_target(params, url, api_client, authorities), token)


def _target(params: t.Mapping[str, t.Any], url: str, api_client: t.Callable[[], t.Any], authorities: str | None) -> Target:
    return Target(url, "prometheus_endpoint", params["via"], api_client, authorities)


def _service_ca(kube: _kube.Kube, base: str) -> str:
    what = f"get ConfigMap openshift-service-ca.crt in namespace {OPENSHIFT_NAMESPACE}, the CA of its Services"
    text = (kube.get(f"{base}/configmaps/openshift-service-ca.crt", what).get("data") or {}).get("service-ca.crt") or ""
    if "-----BEGIN" not in text:
        raise ModelMonitoringError(
            f"ConfigMap openshift-service-ca.crt in namespace {OPENSHIFT_NAMESPACE} holds no certificate in service-ca.crt:"
            " see that OpenShift's service-ca operator runs, or give prometheus_ca_cert"
        )
    return text


def _connection_token(api_client: t.Any) -> str:
    """The bearer token of the connection to the API server."""
    value = api_client.configuration.auth_settings().get("BearerToken", {}).get("value") or ""
    if not value.startswith("Bearer "):
        raise ModelMonitoringError(
            "prometheus_token: missing, and the connection to the API server has none that could be shown instead (it uses a client certificate):"
            " give prometheus_token, or prometheus_service_account with a service account that has ClusterRole cluster-monitoring-view"
        )
    return value.removeprefix("Bearer ")


def _requested_token(kube: _kube.Kube, name: str, namespace: str) -> str:
    """A token for a service account that lives ten minutes."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": TOKEN_SECONDS}}
    what = f"create a token (serviceaccounts/token) for ServiceAccount {name} in namespace {namespace}"
    return kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request, what)["status"]["token"]
