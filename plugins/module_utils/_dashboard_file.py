# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""From a dashboard's JSON to the content of a GrafanaDashboard: looked at before anything is touched, and small enough for the API server."""

from __future__ import annotations

import base64
import gzip
import json
import re
import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

PLAIN_BYTES = 256 * 1024
"""Up to this size a dashboard goes to the API server as it is, so that a diff can be read; a larger one is compressed."""

MOST_BYTES = 1024 * 1024
"""What the API server stores of one object is 1.5 MiB at most, and the previous state is sent along now and then."""

_UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


def content(text: str, where: str) -> dict[str, t.Any]:
    """``uid`` and ``title`` of a dashboard, and ``spec``: the fields of a GrafanaDashboard's spec that hold it.

    :param text: the JSON.
    :param where: the file, for messages.
    :raises ModelMonitoringError: it is no dashboard that can be imported as it is, or is too large.
    """
    try:
        dashboard = json.loads(text)
    except ValueError as error:
        raise ModelMonitoringError(f"{where} is not JSON ({error}): correct it, or leave the file out") from error
    if isinstance(dashboard, dict) and isinstance(dashboard.get("dashboard"), dict):
        raise ModelMonitoringError(f"{where} is an answer of Grafana's API: take what is in its field 'dashboard'")
    if not isinstance(dashboard, dict) or not isinstance(dashboard.get("panels"), list):
        raise ModelMonitoringError(f"{where} is not a dashboard: give the JSON of one, which has a list of panels")
    title, uid = dashboard.get("title"), dashboard.get("uid")
    if not isinstance(title, str) or not title.strip():
        raise ModelMonitoringError(f"{where}: the dashboard has no title: give it one")
    if not isinstance(uid, str) or not _UID.fullmatch(uid):
        raise ModelMonitoringError(
            f"{where}: the dashboard's uid is {json.dumps(uid)}: give it one of at most 40 letters, digits, '-' and '_', so that links to it last"
        )
    if dashboard.get("__inputs"):
        raise ModelMonitoringError(
            f"{where} was exported for sharing and asks for its data sources at import (__inputs): export it without, or make them variables"
        )
    return {"uid": uid, "title": title, "spec": _fields(text, where)}


def _fields(text: str, where: str) -> dict[str, str]:
    if len(text.encode()) <= PLAIN_BYTES:
        return {"json": text}
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(packed) > MOST_BYTES:
        raise ModelMonitoringError(f"{where} has {len(packed)} bytes even when compressed, more than the API server takes: split the dashboard")
    return {"gzipJson": packed}
