# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What evaluations may, in both ways that clusters have, and when the operator is started again."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_permission, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_permission import Permission
from ansible_collections.private_ai.model_monitoring.plugins.modules import lm_eval_permission

OLD, WROTE, NEW = "2026-11-25T21:00:00Z", "2026-11-25T22:00:00Z", "2026-11-25T23:00:00Z"
OPERATOR = _lm_eval_permission.OPERATOR


def crd(*path, served=True):
    schema: dict = {"properties": {"permitOnline": {"type": "string"}}}
    for name in reversed(path):
        schema = {"properties": {name: schema}}
    return {"spec": {"versions": [{"name": "v0", "served": True}, {"name": "v1", "served": served, "schema": {"openAPIV3Schema": schema}}]}}


CRD = crd(*_lm_eval_permission.FIELDS)


def config_map(name, written=OLD, **data):
    return {"metadata": {"name": name, "creationTimestamp": OLD, "managedFields": [{"time": written}, {}]}, "data": data}


class Cluster:
    """Paths and their objects; what is patched is written now, and a deleted pod is followed by another."""

    def __init__(self, **objects):
        self.crd = objects.get("crd")
        self.clusters = objects.get("clusters", [])
        self.config_maps = {item["metadata"]["name"]: item for item in objects.get("config_maps", [])}
        self.pods = {"operator-1": {"metadata": {"name": "operator-1"}, "status": {"startTime": objects.get("started", OLD)}}}
        self.asked = []
        self.hand_over = self.operator = True

    def get(self, path, what, **query):
        if path.endswith("/deployments"):
            assert query == {"fieldSelector": f"metadata.name={OPERATOR}"}
            return {"items": [{"metadata": {"name": OPERATOR, "namespace": "redhat-ods-applications"}}]}
        if path.endswith("/datascienceclusters"):
            assert path == "/apis/datasciencecluster.opendatahub.io/v1/datascienceclusters"
            return {"items": self.clusters}
        found = self.crd if "customresourcedefinitions" in path else self.config_maps.get(path.rpartition("/")[2])
        if found is None:
            raise KubeError("no", status=404)
        return copy.deepcopy(found)

    def merge_patch(self, path, body, what, **query):
        assert query.pop("fieldManager") == "model-monitoring"
        self.asked.append((path.rpartition("/")[2], body, query))
        if query:
            return
        if "configmaps" in path:
            self.config_maps[path.rpartition("/")[2]]["data"] |= body["data"]
            self.config_maps[path.rpartition("/")[2]]["metadata"]["managedFields"] = [{"time": WROTE}]
        elif self.hand_over:
            self.config_maps[_lm_eval_permission.HANDED_OVER] = config_map(
                _lm_eval_permission.HANDED_OVER, WROTE, **{"eval.lmeval.permitOnline": "true", "eval.lmeval.permitCodeExecution": "true"}
            )

    def delete(self, path, what, **query):
        self.asked.append(("delete", path.rpartition("/")[2]))
        self.pods = {"operator-2": {"metadata": {"name": "operator-2"}, "status": {"startTime": NEW}}}


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """A wait that looks as long as anything changes, without time."""

    class View:
        def __init__(self, cluster):
            self.cluster = cluster

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

        def items(self, selection):
            plural, name = selection.path.rpartition("/")[2], selection.fields.partition("=")[2]
            if plural == "pods":
                assert selection.labels == "control-plane=controller-manager"
                return list(self.cluster.pods.values())
            if plural == "deployments" and not self.cluster.operator:
                return []
            if plural == "deployments":
                status = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
                spec = {"replicas": 1, "selector": {"matchLabels": {"control-plane": "controller-manager"}}}
                return [{"metadata": {"name": name}, "spec": spec, "status": status}]
            return [item for item in self.cluster.config_maps.values() if item["metadata"]["name"] == name]

    def wait_for(view, judge, timeout):
        for _look in range(3):
            states = judge(view)
            if all(state.phase == _wait.READY for state in states):
                return
        raise _wait.WaitError(states[0].text, states, 0.0, {})

    monkeypatch.setattr(_wait, "View", View)
    monkeypatch.setattr(_wait, "wait_for", wait_for)


def own(written=OLD, **data):
    return config_map(_lm_eval_permission.CONFIG_MAP, written, **data)


@pytest.mark.parametrize(
    ("found", "version"),
    [(CRD, "v1"), (None, ""), ({"spec": {}}, ""), (crd("spec", "components"), ""), (crd(*_lm_eval_permission.FIELDS, served=False), "")],
)
def test_whether_the_schema_has_the_fields(found, version):
    assert _lm_eval_permission.version_with_fields(found) == version


def test_by_the_operators_config_map():
    cluster = Cluster(config_maps=[own(**{"lmes-allow-online": "false", "lmes-pod-image": "x"})])
    outcome = Permission(cluster).give(["online"], 1)
    assert outcome.where == "ConfigMap redhat-ods-applications/trustyai-service-operator-config"
    assert (outcome.before, outcome.after) == ({"online": False, "code_execution": False}, {"online": True, "code_execution": False})
    patch = {"metadata": {"annotations": {"opendatahub.io/managed": "false"}}, "data": {"lmes-allow-online": "true"}}
    assert cluster.asked == [("trustyai-service-operator-config", patch, {}), ("delete", "operator-1")]
    assert outcome.restarted == ["operator-1"]


def test_a_second_time_nothing_is_done():
    cluster = Cluster(config_maps=[own(WROTE, **{"lmes-allow-online": "true"})], started=NEW)
    outcome = Permission(cluster, "mine").give(["online"], 1)
    assert (cluster.asked, outcome.restarted) == ([], [])
    assert not lm_eval_permission.result(outcome)["changed"]


def test_a_pod_that_has_not_read_it_is_started_again_whoever_wrote_it():
    cluster = Cluster(config_maps=[own(WROTE, **{"lmes-allow-online": "true"})], started=OLD)
    outcome = Permission(cluster).give(["online"], 1)
    assert cluster.asked == [("delete", "operator-1")]
    assert lm_eval_permission.result(outcome)["changed"]


def test_no_permission_is_taken_away():
    cluster = Cluster(config_maps=[own(**{"lmes-allow-online": "true", "lmes-allow-code-execution": "true"})])
    assert Permission(cluster).give([], 1).after == {"online": True, "code_execution": True}
    assert cluster.asked == []


DSC = {"metadata": {"name": "default-dsc"}, "spec": {"components": {"trustyai": {"managementState": "Managed"}}}}
ALLOWED = copy.deepcopy(DSC)
ALLOWED["spec"]["components"]["trustyai"]["eval"] = {"lmeval": {"permitOnline": "allow", "permitCodeExecution": "deny"}}


def test_by_the_data_science_cluster():
    cluster = Cluster(crd=CRD, clusters=[DSC], config_maps=[own()])
    outcome = Permission(cluster).give(["online", "code_execution"], 1)
    fields = {"permitOnline": "allow", "permitCodeExecution": "allow"}
    assert cluster.asked[0] == ("default-dsc", {"spec": {"components": {"trustyai": {"eval": {"lmeval": fields}}}}}, {})
    assert (outcome.where, outcome.restarted) == ("DataScienceCluster default-dsc", ["operator-1"])


def test_what_the_cluster_gives_already_is_left():
    cluster = Cluster(crd=CRD, clusters=[ALLOWED], config_maps=[config_map(_lm_eval_permission.HANDED_OVER, **{"eval.lmeval.permitOnline": "true"})])
    outcome = Permission(cluster).give(["online"], 1)
    assert (cluster.asked, outcome.before) == ([], {"online": True, "code_execution": False})


def test_it_waits_until_it_is_handed_over():
    cluster = Cluster(crd=CRD, clusters=[DSC])
    cluster.hand_over = False
    with pytest.raises(_wait.WaitError, match="does not say yet what is permitted"):
        Permission(cluster).give(["online"], 1)


def test_where_nothing_is_wanted_nothing_is_waited_for():
    cluster = Cluster(crd=CRD, clusters=[DSC])
    assert Permission(cluster).give([], 1).restarted == [] and cluster.asked == []


def test_a_pod_that_takes_its_time_is_deleted_once():
    cluster = Cluster(config_maps=[own(WROTE, **{"lmes-allow-online": "true"})])
    cluster.delete = lambda path, what, **query: cluster.asked.append(path)
    with pytest.raises(_wait.WaitError, match="pod operator-1 has not read trustyai-service-operator-config yet"):
        Permission(cluster).give(["online"], 1)
    assert len(cluster.asked) == 1


def test_a_schema_without_a_cluster_is_the_config_map():
    cluster = Cluster(crd=CRD, config_maps=[own(**{"lmes-allow-online": "true"})])
    assert Permission(cluster).give(["online"], 1).where.startswith("ConfigMap ")


@pytest.mark.parametrize("objects", [{"config_maps": [own()]}, {"crd": CRD, "clusters": [DSC]}])
def test_check_mode_tells_and_touches_nothing(objects):
    cluster = Cluster(**objects)
    outcome = Permission(cluster, dry=True).give(["online"], 1)
    ((_name, _body, query),) = cluster.asked
    assert query == {"dryRun": "All"} and outcome.after["online"] and lm_eval_permission.result(outcome)["changed"]


def test_check_mode_tells_of_a_restart():
    cluster = Cluster(config_maps=[own(WROTE, **{"lmes-allow-online": "true"})])
    assert Permission(cluster, dry=True).give(["online"], 1).restarted == ["operator-1"]
    assert cluster.asked == []


def test_check_mode_does_not_wait():
    assert Permission(Cluster(crd=CRD, clusters=[ALLOWED]), dry=True).give(["online"], 1).restarted == []


def test_what_is_not_there():
    with pytest.raises(ModelMonitoringError, match="ConfigMap redhat-ods-applications/trustyai-service-operator-config does not exist"):
        Permission(Cluster()).give(["online"], 1)
    cluster = Cluster()
    cluster.get = lambda path, what, **query: {"items": []}
    with pytest.raises(ModelMonitoringError, match="TrustyAI's operator is not installed"):
        Permission(cluster)


def test_without_an_operator_no_pod_is_deleted():
    cluster = Cluster(config_maps=[own(WROTE, **{"lmes-allow-online": "true"})])
    cluster.operator = False
    with pytest.raises(_wait.WaitError, match="does not exist"):
        Permission(cluster, "mine").give(["online"], 1)
    assert cluster.asked == []


def test_a_pod_that_leaves_is_not_started_again():
    pod = {"metadata": {"name": "a", "deletionTimestamp": NEW}, "status": {"startTime": OLD}}
    assert _lm_eval_permission.stale(own(WROTE), [pod, {"metadata": {"name": "new"}}]) == []
