# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run of the site promises besides its end: the truth in check mode, nothing changed without need, no credential shown."""

from __future__ import annotations

import base64
import json
import os

import kubernetes
import pytest

CHECK = ("--check", "--diff")


def variables(**values) -> tuple[str, str]:
    return "--extra-vars", json.dumps(values)


ELSEWHERE = variables(model_monitoring_namespace="model-monitoring-elsewhere", tempo_storage_bucket="elsewhere")


@pytest.fixture(scope="session")
def credentials():
    """The credentials of the object store, in the forms in which they could be shown."""
    values = [os.environ[name] for name in ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")]
    return [*values, *(base64.b64encode(value.encode()).decode() for value in values)]


def shown(credentials, text):
    return [credentials.index(value) for value in credentials if value in text]


def test_a_second_run_changes_nothing(play, converged, objects):
    before = objects()
    run = play("--skip-tags=verify")
    assert (run.status, run.changed) == (0, 0), run.output[-3000:]
    assert objects() == before


def test_check_mode_of_what_is_there(play, converged, objects):
    before = objects()
    run = play(*CHECK)
    assert (run.status, run.changed) == (0, 0), run.output[-3000:]
    assert objects() == before


def test_check_mode_of_what_is_not_there(play, objects, credentials):
    before = objects()
    run = play(*CHECK, "-vvv", *ELSEWHERE)
    assert run.status == 0, run.output[-3000:]
    for target in (
        "Namespace model-monitoring-elsewhere",
        "Secret model-monitoring-elsewhere/tempo-storage",
        "TempoStack model-monitoring-elsewhere/tempo",
        "OpenTelemetryCollector model-monitoring-elsewhere/otel-collector",
        "PodMonitor model-monitoring-elsewhere/model-monitoring-models",
        "PrometheusRule model-monitoring-elsewhere/model-monitoring-models",
        "Deployment model-monitoring-elsewhere/pushgateway",
    ):
        assert f"+++ after: {target}" in run.output
    assert "create" in run.output
    assert objects() == before
    assert not shown(credentials, run.output)


def test_no_credential_is_shown(converged, credentials):
    assert not shown(credentials, converged.output)


def test_no_credential_is_in_an_object_but_the_secrets(converged, api, credentials):
    client = kubernetes.dynamic.DynamicClient(api)
    looked = 0
    for resource in client.resources.search():
        if not isinstance(resource, kubernetes.dynamic.resource.ResourceList) and "list" in resource.verbs and resource.kind != "Secret":
            for item in resource.get().items:
                looked += 1
                assert not shown(credentials, json.dumps(item.to_dict())), f"{resource.kind} {item.metadata.namespace}/{item.metadata.name}"
    assert looked > 100
