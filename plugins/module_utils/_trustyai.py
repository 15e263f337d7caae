# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Metric requests of TrustyAI's service: what it computes on a schedule and shows to Prometheus.

The service gives each request an id of its own and completes what it was asked, so a request of ours is known by a name that follows from its
content. Requests with other names are other people's.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Http, Link

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "model-monitoring-"
REQUEST_SECONDS = 30.0
#: By metric the path of its API.
PATHS = {
    "spd": "/metrics/group/fairness/spd",
    "dir": "/metrics/group/fairness/dir",
    "meanshift": "/metrics/drift/meanshift",
    "kstest": "/metrics/drift/kstest",
    "approxkstest": "/metrics/drift/approxkstest",
    "fouriermmd": "/metrics/drift/fouriermmd",
}


@dataclass(frozen=True)
class Wanted:
    """A metric request as it shall be; ``request`` is its body."""

    metric: str
    request: Mapping[str, t.Any]

    @property
    def name(self) -> str:
        """By which it is known."""
        text = json.dumps([self.metric, self.request], sort_keys=True)
        return f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Plan:
    """What is to be asked for, and which requests (path, id) are to be taken back."""

    create: Sequence[Wanted]
    delete: Sequence[tuple[str, str]]


def plan(wanted: Sequence[Wanted], there: Sequence[Mapping[str, t.Any]]) -> Plan:
    """Compare with the requests that the service has; raises nothing for what it does not know."""
    names = {one.name for one in wanted}
    mine = {(one.get("request") or {}).get("requestName") or "": one for one in there}
    ours = {name: one for name, one in mine.items() if name.startswith(PREFIX)}
    gone = [(_path(one), one.get("id") or "") for name, one in sorted(ours.items()) if name not in names]
    return Plan([one for one in wanted if one.name not in ours], [item for item in gone if item[0]])


def _path(there: Mapping[str, t.Any]) -> str:
    """The API of the metric that a request is for, empty for one that is not known."""
    return PATHS.get(str((there.get("request") or {}).get("metricName") or "").lower(), "")


class Service:
    """TrustyAI's service, over HTTP."""

    def __init__(self, link: Link[Http], url: str) -> None:
        self._link = link
        self._url = url

    def requests(self) -> list[dict[str, t.Any]]:
        """All metric requests that it has; raises ModelMonitoringError."""
        status, body, text = self._send("GET", "/metrics/all/requests")
        if status != 200 or not isinstance(body, dict):
            raise ModelMonitoringError(
                f"{self._url}/metrics/all/requests answered {status} ({text}): correct the endpoint, it is no TrustyAI service"
            )
        return body.get("requests") or []

    def create(self, wanted: Wanted) -> str:
        """Ask for a metric; why the service will not (yet), empty when it does. Raises ModelMonitoringError."""
        body = {**wanted.request, "requestName": wanted.name}
        status, _body, text = self._send("POST", f"{PATHS[wanted.metric]}/request", body)
        if status < 300:
            return ""
        if status in (400, 404):  # of a model that has not been asked anything yet it knows nothing
            return text or f"{status}"
        raise ModelMonitoringError(f"{self._url}: the request for {wanted.metric} was answered {status} ({text}): see the log of TrustyAI's service")

    def delete(self, path: str, number: str) -> None:
        """Take a request back; raises ModelMonitoringError."""
        status, _body, text = self._send("DELETE", f"{path}/request", {"requestId": number})
        if status >= 300 and status != 404:
            raise ModelMonitoringError(f"{self._url}: request {number} could not be taken back: {status} ({text}): see the log of TrustyAI's service")

    def _send(self, method: str, path: str, body: t.Any = None) -> tuple[int, t.Any, str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        answer = self._link.use(lambda http: http.request(method, path, timeout=REQUEST_SECONDS, headers=headers, body=data))
        try:
            return answer.status, json.loads(answer.body or b"null"), answer.text
        except ValueError:
            return answer.status, None, answer.text


def apply(service: Service, wanted: Sequence[Wanted], dry: bool = False) -> dict[str, t.Any]:
    """Bring the requests to the wanted state; the module's return values. Raises ModelMonitoringError."""
    todo = plan(wanted, service.requests())
    pending = {}
    created = []
    for one in todo.create:
        reason = "" if dry else service.create(one)
        if reason:
            pending[one.name] = reason
        else:
            created.append(one.name)
    for path, number in todo.delete:
        if not dry:
            service.delete(path, number)
    return {
        "changed": bool(created or todo.delete),
        "created": created,
        "deleted": [number for _path, number in todo.delete],
        "pending": [{"metric": one.metric, "name": one.name, "reason": pending[one.name]} for one in wanted if one.name in pending],
    }
