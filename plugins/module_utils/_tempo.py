# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Read traces from Tempo's query API (query-frontend, or a gateway in front of it)."""

from __future__ import annotations

import json
import time
import typing as t
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer, Http, Link, Unreachable
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import PROBE_ID

try:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    IMPORT_ERROR = _error

REQUEST_SECONDS = 10.0
"""Most that one request may take."""

HOPELESS = (400, 401, 403, 405)
"""Statuses that asking again does not change."""


@dataclass(frozen=True)
class Read:
    """What one read said.

    ``state``: ``ok``; ``missing`` (Tempo does not have it); ``refused`` (it answered with an error); ``unreachable``.
    ``text``: why it is not ok. ``hopeless``: asking again does not help.
    """

    state: str
    text: str = ""
    hopeless: bool = False


class Tempo:
    """The query API.

    :param link: where it is.
    :param tenant: for the header ``X-Scope-OrgID``; None without multitenancy.
    :param token: bearer token; None without authentication.
    :raises ModelMonitoringError: tenant or token cannot be sent in a header. The message does not hold them.
    """

    def __init__(self, link: Link[Http], tenant: str | None = None, token: str | None = None) -> None:
        for name, value in (("tempo_tenant", tenant), ("tempo_token", token)):
            if value is not None and not (value.isascii() and value.isprintable() and " " not in value):
                raise ModelMonitoringError(f"{name}: it has a space, a line break or a character beyond ASCII: correct it")
        self._link = link
        self._headers = {
            **({"X-Scope-OrgID": tenant} if tenant else {}),
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self.clock_skew: float | None = None
        """Seconds by which Tempo's clock is ahead of ours, by its latest answer; good to about a second."""

    def warm_up(self) -> None:
        """Open the connection, so that the first read is as quick as the others; whether that worked the first read says."""
        self._get("/api/echo", {}, "text/plain")

    def trace(self, trace_id: str, probe_id: str, span_ids: frozenset[bytes]) -> Read:
        """Look whether a trace is there with all its spans.

        The answer is asked for as protobuf: it is OTLP's own message, which OTLP's own class reads.

        :param trace_id: 32 hex digits.
        :param span_ids: of the spans that must be there, each with the probe's id.
        """
        read, answer = self._get(f"/api/traces/{trace_id}", {}, "application/protobuf")
        if answer is None:
            return read
        try:
            found = _probe_spans(answer.body, probe_id)
        except DecodeError:
            return Read("refused", f"the answer is not a trace: {answer.text}: is this Tempo's query-frontend?")
        if span_ids <= found:
            return Read("ok")
        return Read("missing", f"only {len(span_ids & found)} of {len(span_ids)} spans are there")

    def search(self, probe_id: str, start: int, end: int) -> tuple[Read, frozenset[int]]:
        """Find traces by the probe's id with TraceQL.

        :param start: of the time to search in, seconds since 1970; ``end`` likewise.
        :return: the read, and the ids found. As numbers, for Tempo leaves leading zeros out.
        """
        query = {"q": traceql(probe_id), "start": start, "end": end, "limit": 20}
        read, answer = self._get("/api/search", query, "application/json")
        if read.state == "missing":  # an empty result is 200
            read = Read("refused", read.text, hopeless=True)
        if answer is None:
            return read, frozenset()
        try:
            return read, frozenset(int(one["traceID"], 16) for one in json.loads(answer.body).get("traces") or [])
        except (ValueError, KeyError, AttributeError, TypeError):
            return Read("refused", f"the answer is not a search result: {answer.text}: is this Tempo's query-frontend?"), frozenset()

    def _get(self, path: str, query: dict[str, t.Any], accept: str) -> tuple[Read, Answer | None]:
        """The answer only with status 200, else None and why."""
        headers = {**self._headers, "Accept": accept}
        try:
            answer = self._link.use(lambda http: http.request("GET", path, headers=headers, query=query, timeout=REQUEST_SECONDS))
        except Unreachable as exc:
            return Read("unreachable", str(exc)), None
        self.clock_skew = _skew(answer.headers.get("Date"), time.time())
        if answer.status == 200:
            return Read("ok"), answer
        if answer.status == 404:
            return Read("missing", f"404 {answer.text}".strip()), None
        return Read("refused", f"{answer.status} {answer.text}".strip(), answer.status in HOPELESS), None


def traceql(probe_id: str) -> str:
    """The query that finds a probe's traces."""
    return f'{{ span.{PROBE_ID} = "{probe_id}" }}'


def _probe_spans(body: bytes, probe_id: str) -> frozenset[bytes]:
    """Ids of the spans in an OTLP trace that carry the probe's id. Raises DecodeError."""
    return frozenset(
        span.span_id
        for resource in TracesData.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if any(one.key == PROBE_ID and one.value.string_value == probe_id for one in span.attributes)
    )


def _skew(date: str | None, now: float) -> float | None:
    """Seconds by which an HTTP ``Date`` is ahead of ``now`` (seconds since 1970); None for no or a broken date."""
    try:
        return parsedate_to_datetime(date).timestamp() - now if date else None
    except ValueError:
        return None
