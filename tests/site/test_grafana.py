# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is promised of Grafana while it lives: nothing is to be done by hand when a secret changes, and what was changed by hand is put back."""

from __future__ import annotations

import base64
import json
import re
import time

import kubernetes
import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Target, http_link

# One after the other, because what a test leaves is what the next one finds.
pytestmark = [pytest.mark.changes, pytest.mark.usefixtures("converged"), pytest.mark.xdist_group("grafana")]

NAMESPACE = "private-ai-demo"
URL = f"http://grafana-service.{NAMESPACE}.svc:3000"
ADMIN, TOKEN = "grafana-admin-credentials", "grafana-datasources-token"
QUERY = {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": "vector(42)", "instant": True, "intervalMs": 15000, "maxDataPoints": 10}


@pytest.fixture(scope="module")
def core(api):
    return kubernetes.client.CoreV1Api(api)


@pytest.fixture(scope="module")
def grafana(api, core):
    """Asks Grafana as its administrator, with what the Secret has at the moment; returns status and JSON."""

    def ask(method, path, body=None):
        data = {key: base64.b64decode(value) for key, value in core.read_namespaced_secret(ADMIN, NAMESPACE).data.items()}
        basic = base64.b64encode(data["GF_SECURITY_ADMIN_USER"] + b":" + data["GF_SECURITY_ADMIN_PASSWORD"]).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        with http_link(Target(URL, "grafana", "auto", lambda: api)) as link:
            answer = link.use(lambda http: http.request(method, path, timeout=30, headers=headers, body=body and json.dumps(body).encode()))
        return answer.status, json.loads(answer.body)

    return ask


def until(what, seconds):
    """Waits until a function gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)
    return found


def figures(grafana):
    """What a panel with a figure of Prometheus' would show; the whole answer when that is none."""
    _status, answer = grafana("POST", "/api/ds/query", {"queries": [QUERY], "from": "now-5m", "to": "now"})
    result = answer.get("results", {}).get("A", {})
    columns = result["frames"][0]["data"]["values"] if result.get("frames") else []
    return columns[1] if len(columns) > 1 and "error" not in result else str(answer)


def test_a_dashboard_that_was_edited_by_hand_is_put_back(grafana):
    path = "/api/dashboards/uid/stack-health"
    _status, found = grafana("GET", path)
    title = found["dashboard"]["title"]
    edited = {**found["dashboard"], "title": "Edited by hand"}
    status, answer = grafana("POST", "/api/dashboards/db", {"dashboard": edited, "folderUid": found["meta"]["folderUid"], "overwrite": True})
    assert status == 200, answer
    assert grafana("GET", path)[1]["dashboard"]["title"] == "Edited by hand"
    until(lambda: grafana("GET", path)[1]["dashboard"]["title"] == title, 100)


def test_a_token_that_was_spoiled_is_renewed_by_a_run(grafana, core, play):
    assert figures(grafana) == [42]
    core.patch_namespaced_secret(TOKEN, NAMESPACE, {"stringData": {"token": "spoiled"}})
    until(lambda: figures(grafana) != [42], 100)  # the operator reads it by itself
    run = play("--tags=grafana")
    assert run.status == 0, run.output[-3000:]
    until(lambda: figures(grafana) == [42], 30)
    assert play("--tags=grafana").changed == 0


def test_a_token_is_renewed_in_the_cluster(api, core, grafana):
    batch = kubernetes.client.BatchV1Api(api)
    before = core.read_namespaced_secret(TOKEN, NAMESPACE).data["token"]
    template = batch.read_namespaced_cron_job("grafana-token-renewal", NAMESPACE).spec.job_template
    batch.create_namespaced_job(NAMESPACE, {"metadata": {"name": "renew-now"}, "spec": api.sanitize_for_serialization(template.spec)})
    try:
        until(lambda: batch.read_namespaced_job("renew-now", NAMESPACE).status.succeeded, 120)
    finally:
        batch.delete_namespaced_job("renew-now", NAMESPACE, propagation_policy="Background")
    after = core.read_namespaced_secret(TOKEN, NAMESPACE).data["token"]
    assert after != before
    assert not base64.b64decode(after).endswith(b"\n")
    assert figures(grafana) == [42]
    payload = base64.b64decode(after).split(b".")[1]
    end = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["exp"]
    pushed = core.connect_get_namespaced_service_proxy_with_path("pushgateway:9091", NAMESPACE, "metrics")
    (value,) = re.findall(r'^model_monitoring_token_expiry_timestamp_seconds{.*token="grafana".*} (\S+)$', pushed, re.MULTILINE)
    assert float(value) == end


def test_after_a_renewal_in_the_cluster_a_run_changes_nothing(play):
    assert play("--tags=grafana").changed == 0


def test_a_new_password_needs_nothing_by_hand(grafana, core, play):
    before = core.read_namespaced_secret(ADMIN, NAMESPACE).data["GF_SECURITY_ADMIN_PASSWORD"]
    core.delete_namespaced_secret(ADMIN, NAMESPACE)
    run = play("--tags=grafana", "-vvv")
    assert run.status == 0, run.output[-3000:]
    after = core.read_namespaced_secret(ADMIN, NAMESPACE).data["GF_SECURITY_ADMIN_PASSWORD"]
    assert after != before
    for value in (before, after):
        assert value not in run.output
        assert base64.b64decode(value).decode() not in run.output
    assert figures(grafana) == [42]
    assert grafana("GET", "/api/search?type=dash-db")[1], "the dashboards are still there"
    assert play("--tags=grafana").changed == 0
