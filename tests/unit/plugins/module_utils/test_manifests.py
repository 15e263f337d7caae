# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of the API server for a list of manifests, and what is told about it."""

from __future__ import annotations

import base64
import copy

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _manifests
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._manifests import CHANGED, CREATED, UNCHANGED, Manager, parse

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "demo"}, "data": {"k": "v"}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "demo"}, "stringData": {"user": "me"}}
STACK = {"apiVersion": "tempo.grafana.com/v1alpha1", "kind": "TempoStack", "metadata": {"name": "t", "namespace": "demo"}, "spec": {}}
GROUP = {"apiVersion": "v1", "kind": "OperatorGroup", "metadata": {"name": "g", "namespace": "demo"}}


class Kube:
    """An API server that keeps what is applied. ``fail`` are answers to give first, by method."""

    def __init__(self, *objects, **fail):
        self.kept = {}
        self.fail = {method: list(answers) for method, answers in fail.items()}
        self.asked = []
        self.allowed = True
        self.version = 0
        for item in objects:
            self._keep(self._path(item), item)

    @staticmethod
    def _path(item):
        plural = {"Namespace": "namespaces", "ConfigMap": "configmaps", "Secret": "secrets", "OperatorGroup": "operatorgroups"}[item["kind"]]
        namespace = item["metadata"].get("namespace")
        return "/api/v1/" + (f"namespaces/{namespace}/" if namespace else "") + f"{plural}/{item['metadata']['name']}"

    def _keep(self, path, item):
        self.version += 1
        kept = copy.deepcopy(item)
        kept["metadata"] |= {"resourceVersion": str(self.version), "uid": path}
        self.kept[path] = kept
        return kept

    def _answer(self, method, path, query=None):
        self.asked.append((method, path, query or {}))
        if self.fail.get(method):
            answer = self.fail[method].pop(0)
            if answer is not None:
                raise answer

    def get(self, path, what, **query):
        if path == "/api/v1":
            kinds = {"Namespace": False, "ConfigMap": True, "Secret": True, "OperatorGroup": True}
            return {"resources": [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": scoped} for kind, scoped in kinds.items()]}
        self._answer("get", path)
        if path.rpartition("/")[2] in ("namespaces", "configmaps", "secrets", "operatorgroups"):
            return {"items": [item for kept, item in self.kept.items() if kept.startswith(f"{path}/")]}
        if path not in self.kept:
            raise KubeError(f"Cannot {what}: not found", status=404)
        return copy.deepcopy(self.kept[path])

    def apply(self, path, body, what, **query):
        self._answer("apply", path, query)
        namespace = body["metadata"].get("namespace")
        if namespace and f"/api/v1/namespaces/{namespace}" not in self.kept:
            raise KubeError(f"Cannot {what}: not found", status=404)
        if path in self.kept and {**self.kept[path], "metadata": {}} == {**body, "metadata": {}}:
            return copy.deepcopy(self.kept[path])
        if "dryRun" in query:
            return {**copy.deepcopy(body), "metadata": {**body["metadata"], "resourceVersion": "dry"}}
        return copy.deepcopy(self._keep(path, body))

    def create(self, path, body, what):
        self._answer("create", path)
        assert path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return {"status": {"allowed": self.allowed}}

    def delete(self, path, what, **query):
        self._answer("delete", path, query)
        if "dryRun" not in query:
            del self.kept[path]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def manager(kube, **options):
    clock = Clock()
    return Manager(kube, "tests", create_only=["Namespace"], clock=clock, sleep=clock.sleep, **options)


def actions(manager):
    return {outcome.target: outcome.action for outcome in manager.outcomes}


@pytest.mark.parametrize("entries", [["apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n"], [None, "", {**SECRET, "metadata": {"name": "a"}}]])
def test_texts_and_mappings(entries):
    assert [manifest.target for manifest in parse(entries)] == ["Secret a"]


@pytest.mark.parametrize(
    ("entries", "secrets", "message"),
    [
        (["a: [b"], {}, r"manifests\[0\] is not YAML"),
        ([CONFIG, {"kind": "Secret"}], {}, r"manifests\[1\] is not a manifest: give a mapping with apiVersion, kind and metadata.name"),
        ([CONFIG, ["a"]], {}, r"manifests\[1\] is not a manifest"),
        ([CONFIG, CONFIG], {}, "ConfigMap demo/a is there twice"),
        ([CONFIG], {"s": {"a": "b"}}, "secret_data: manifests have no Secret s"),
    ],
)
def test_what_is_no_manifest(entries, secrets, message):
    with pytest.raises(ModelMonitoringError, match=message):
        parse(entries, secrets)


def test_a_generated_value_for_no_secret():
    with pytest.raises(ModelMonitoringError, match="generated_data: manifests have no Secret t: correct the name, or add the Secret."):
        parse([SECRET], generated_data={"t": ["password"]})


def test_secret_data_is_put_in_and_the_clear_text_taken_out():
    (manifest,) = parse([SECRET], {"s": {"key": "ü"}})
    assert manifest.body["data"] == {"user": base64.b64encode(b"me").decode(), "key": base64.b64encode("ü".encode()).decode()}
    assert "stringData" not in manifest.body
    assert "stringData" in SECRET, "what was given is left as it is"


def test_secrets_of_one_name_in_two_namespaces():
    other = {**SECRET, "metadata": {"name": "s", "namespace": "other"}}
    for manifest in parse([SECRET, other], {"s": {"key": "a"}}):
        assert set(manifest.body["data"]) == {"user", "key"}
        assert "stringData" not in manifest.body


def password(kube):
    return base64.b64decode(kube.kept["/api/v1/namespaces/demo/secrets/s"]["data"]["password"]).decode()


def test_a_generated_value_is_kept_and_made_anew_only_when_it_is_gone():
    kube = Kube(NAMESPACE)
    for expected in (CREATED, UNCHANGED):
        made = manager(kube)
        made.apply(parse([SECRET, CONFIG], generated_data={"s": ["password"]}))
        assert actions(made)["Secret demo/s"] == expected
        assert set(kube.kept["/api/v1/namespaces/demo/secrets/s"]["data"]) == {"user", "password"}
    first = password(kube)
    assert len(first) == 32
    assert first not in str(_manifests.diff(made.outcomes))

    del kube.kept["/api/v1/namespaces/demo/secrets/s"]["data"]["password"]
    made = manager(kube)
    made.apply(parse([SECRET], generated_data={"s": ["password"]}))
    assert actions(made) == {"Secret demo/s": CHANGED}
    assert password(kube) != first
    (shown,) = _manifests.diff(made.outcomes)
    assert "password: (hidden)" in shown["after"]
    assert password(kube) not in shown["after"]


def test_check_mode_says_that_a_value_would_be_generated_and_keeps_one_that_is_there():
    kube = Kube(NAMESPACE)
    made = manager(kube, dry=True)
    made.apply(parse([SECRET], generated_data={"s": ["password"]}))
    assert actions(made) == {"Secret demo/s": CREATED}
    manager(kube).apply(parse([SECRET], generated_data={"s": ["password"]}))
    made = manager(kube, dry=True)
    made.apply(parse([SECRET], generated_data={"s": ["password"]}))
    assert actions(made) == {"Secret demo/s": UNCHANGED}


def test_created_then_unchanged_then_changed():
    kube = Kube()
    for expected in (CREATED, UNCHANGED):
        made = manager(kube)
        made.apply(parse([NAMESPACE, CONFIG]))
        assert actions(made) == {"Namespace demo": expected, "ConfigMap demo/a": expected}
        assert made.changed is (expected == CREATED)
    made = manager(kube)
    made.apply(parse([NAMESPACE, {**CONFIG, "data": {"k": "w"}}]))
    assert actions(made) == {"Namespace demo": UNCHANGED, "ConfigMap demo/a": CHANGED}


def test_check_mode_asks_and_changes_nothing():
    kube = Kube(NAMESPACE)
    made = manager(kube, dry=True)
    made.apply(parse([NAMESPACE, CONFIG]))
    assert actions(made) == {"Namespace demo": UNCHANGED, "ConfigMap demo/a": CREATED}
    assert [query["dryRun"] for method, _path, query in kube.asked if method == "apply"] == ["All"]
    assert list(kube.kept) == ["/api/v1/namespaces/demo"]


def test_check_mode_where_only_the_real_run_would_have_made_namespace_and_kind():
    kube = Kube()
    made = manager(kube, dry=True)
    made.apply(parse([CONFIG, STACK]))
    assert actions(made) == {"ConfigMap demo/a": CREATED, "TempoStack demo/t": CREATED}
    kube.allowed = False
    with pytest.raises(
        KubeError, match="Cannot create TempoStack demo/t: the user of the play may not create tempostacks.tempo.grafana.com in namespace"
    ):
        manager(kube, dry=True).apply(parse([STACK]))


def test_a_real_run_says_what_is_missing():
    with pytest.raises(KubeError, match="ConfigMap demo/a: namespace demo does not exist. Create it, or correct the name."):
        manager(Kube()).apply(parse([CONFIG]))
    with pytest.raises(KubeError, match="does not serve tempo.grafana.com/v1alpha1"):
        manager(Kube(NAMESPACE)).apply(parse([STACK]))


def test_what_was_done_before_an_error_is_told():
    made = manager(Kube())
    with pytest.raises(KubeError):
        made.apply(parse([NAMESPACE, STACK]))
    assert actions(made) == {"Namespace demo": CREATED}


def test_a_namespace_keeps_its_only_one():
    other = {**GROUP, "metadata": {"name": "other", "namespace": "demo"}}
    made = manager(Kube(NAMESPACE, other), one_per_namespace=["OperatorGroup"])
    made.apply(parse([GROUP]))
    assert actions(made) == {"OperatorGroup demo/g": UNCHANGED}
    for there in ((), (GROUP,)):
        kube = Kube(NAMESPACE, *there)
        manager(kube, one_per_namespace=["OperatorGroup"]).apply(parse([GROUP]))
        assert "apply" in [method for method, _path, _query in kube.asked]


def test_fields_of_another():
    with pytest.raises(KubeError, match="conflict with kubectl Take the fields over with force_conflicts=true"):
        manager(Kube(NAMESPACE, apply=[KubeError("conflict with kubectl", status=409)])).apply(parse([CONFIG]))


def test_trouble_that_passes_is_borne_and_other_trouble_is_not():
    kube = Kube(NAMESPACE, apply=[KubeError("failed calling webhook: no endpoints", status=500)] * 3)
    made = manager(kube)
    made.apply(parse([CONFIG]))
    assert actions(made) == {"ConfigMap demo/a": CREATED}
    with pytest.raises(KubeError, match="webhook"):
        manager(Kube(NAMESPACE, apply=[KubeError("failed calling webhook", status=500)] * 1000)).apply(parse([CONFIG]))
    for status, said in ((403, "forbidden"), (500, "field not declared in schema")):
        kube = Kube(NAMESPACE, apply=[KubeError(said, status=status)])
        with pytest.raises(KubeError, match=said):
            manager(kube).apply(parse([CONFIG]))


def test_absent_deletes_what_is_there_but_not_the_namespace(monkeypatch):
    monkeypatch.setattr(_manifests._wait, "View", lambda kube: (_ for _ in ()).throw(AssertionError("nothing to wait for in a dry run")))
    kube = Kube(NAMESPACE, CONFIG)
    made = manager(kube, dry=True)
    made.delete(parse([NAMESPACE, CONFIG, SECRET, STACK]))
    assert actions(made) == {
        "TempoStack demo/t": UNCHANGED, "Secret demo/s": UNCHANGED, "ConfigMap demo/a": "deleted", "Namespace demo": UNCHANGED,
    }  # fmt: skip
    assert len(kube.kept) == 2


@pytest.mark.parametrize(("manager_of", "action"), [("tests", "deleted"), ("kubectl", UNCHANGED), ("", UNCHANGED)])
def test_what_others_have_made_under_this_name_stays(manager_of, action):
    kube = Kube(NAMESPACE, {**CONFIG, "metadata": {**CONFIG["metadata"], **({"managedFields": [{"manager": manager_of}]} if manager_of else {})}})
    made = manager(kube, dry=True, only_own=True)
    made.delete(parse([CONFIG]))
    assert actions(made) == {"ConfigMap demo/a": action}


def test_diff_shows_objects_without_noise_and_secrets_without_values():
    kube = Kube(NAMESPACE, {**SECRET, "data": {"user": "b2xk", "same": "c2FtZQ=="}})
    made = manager(kube)
    made.apply(parse([{**SECRET, "data": {"same": "c2FtZQ=="}}], {"s": {"key": "hidden-value"}}))
    (shown,) = _manifests.diff(made.outcomes)
    assert shown["after_header"] == "Secret demo/s"
    text = shown["before"] + shown["after"]
    for value in ("hidden-value", base64.b64encode(b"hidden-value").decode(), "b2xk", "c2FtZQ==", "resourceVersion", "uid"):
        assert value not in text
    assert "user: (hidden, changed)" in shown["after"]
    assert "same: (hidden)" in shown["after"]
