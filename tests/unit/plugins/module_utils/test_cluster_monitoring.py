# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What a cluster's monitoring is found to take, and the one line that is changed in other people's configuration."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _cluster_monitoring as monitoring
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

CONFIG_MAP = "/api/v1/namespaces/openshift-monitoring/configmaps/cluster-monitoring-config"
NAMESPACE = "/api/v1/namespaces/openshift-monitoring"
OPENSHIFT = {"security.openshift.io", "monitoring.coreos.com"}
BOTH = ["PodMonitor", "ServiceMonitor"]
COMMENTED = """\
# Retention is the platform team's.
prometheusK8s:
  retention: 15d  # was 7d
"""


class Kube:
    """An API server with these groups and this YAML in the ConfigMap (None: no ConfigMap). ``refused``: paths that are."""

    def __init__(self, groups=(), text=None, namespace=True, refused=()):
        self.groups, self.text, self.namespace, self.refused = groups, text, namespace, refused
        self.version = 1
        self.written = []
        self.meanwhile = []

    def get(self, path, what, **query):
        if path in self.refused:
            raise KubeError("forbidden", status=403)
        if path == "/apis":
            return {"groups": [{"name": name} for name in self.groups]}
        if path == "/apis/monitoring.coreos.com/v1":
            names = ("servicemonitors", "servicemonitors/status", "podmonitors")
            return {"resources": [{"name": name, "kind": "ServiceMonitor" if name[0] == "s" else "PodMonitor"} for name in names]}
        if path == NAMESPACE and self.namespace:
            return {"metadata": {}}
        if path == CONFIG_MAP and self.text is not None:
            return {"metadata": {"resourceVersion": str(self.version)}, "data": {"config.yaml": self.text, "other": "kept"}}
        raise KubeError("not found", status=404)

    def _write(self, body, dryRun=None, **query):
        if self.meanwhile:
            self.text = self.meanwhile.pop(0)
            self.version += 1
            raise KubeError("conflict", status=409)
        self.written.append(dryRun)
        if not dryRun:
            self.text = body["data"]["config.yaml"]

    def create(self, path, body, what, **query):
        assert path == CONFIG_MAP.rpartition("/")[0]
        assert self.text is None
        self._write(body, **query)

    def merge_patch(self, path, body, what, **query):
        assert path == CONFIG_MAP
        if not self.meanwhile:
            assert body["metadata"]["resourceVersion"] == str(self.version)
        assert list(body["data"]) == ["config.yaml"]
        self._write(body, **query)


ROWS = {
    "plain Kubernetes": (Kube(namespace=False), [], False, None),
    "with the Prometheus operator": (Kube({"monitoring.coreos.com"}, namespace=False), BOTH, False, None),
    "and with a user of few rights": (
        Kube({"monitoring.coreos.com"}, refused=(CONFIG_MAP, NAMESPACE)),
        BOTH,
        False,
        None,
    ),
    "OpenShift without its monitoring": (Kube({"security.openshift.io"}, namespace=False), [], True, None),
    "no ConfigMap": (Kube(OPENSHIFT), BOTH, True, False),
    "empty": (Kube(OPENSHIFT, ""), BOTH, True, False),
    "other things in it": (Kube(OPENSHIFT, COMMENTED), BOTH, True, False),
    "off": (Kube(OPENSHIFT, "enableUserWorkload: false\n"), BOTH, True, False),
    "a text is not a truth": (Kube(OPENSHIFT, "enableUserWorkload: 'true'\n"), BOTH, True, False),
    "on": (Kube(OPENSHIFT, "enableUserWorkload: true\n"), BOTH, True, True),
}


@pytest.mark.parametrize(("kube", "kinds", "openshift", "user_workload"), ROWS.values(), ids=ROWS.keys())
def test_look(kube, kinds, openshift, user_workload):
    found = monitoring.look(kube)
    assert (found.kinds, found.openshift, found.user_workload) == (kinds, openshift, user_workload)
    assert found.before == found.after == kube.text


@pytest.mark.parametrize("refused", [CONFIG_MAP, NAMESPACE])
def test_who_may_not_read_it_on_openshift_is_told(refused):
    with pytest.raises(KubeError, match="forbidden"):
        monitoring.look(Kube(OPENSHIFT, refused=(refused,)))


TEXTS = {
    "": "enableUserWorkload: true\n",
    "enableUserWorkload: false\n": "enableUserWorkload: true\n",
    "a: 1\nenableUserWorkload : no\nb: 2\n": "a: 1\nenableUserWorkload: true\nb: 2\n",
    COMMENTED: COMMENTED + "enableUserWorkload: true\n",
    "a: 1": "a: 1\nenableUserWorkload: true\n",
    # Deeper ones are somebody else's.
    "a:\n  enableUserWorkload: false\n": "a:\n  enableUserWorkload: false\nenableUserWorkload: true\n",
    # No line can be added to these.
    "{a: 1}": "a: 1\nenableUserWorkload: true\n",
    "a: 1\n...\n": "a: 1\nenableUserWorkload: true\n",
    '"enableUserWorkload": false\n': "enableUserWorkload: true\n",
}


@pytest.mark.parametrize(("before", "after"), TEXTS.items())
def test_with_switch(before, after):
    assert monitoring.with_switch(before) == after
    assert yaml.safe_load(after) == {**(yaml.safe_load(before) or {}), "enableUserWorkload": True}
    assert monitoring.with_switch(after) == after


@pytest.mark.parametrize("text", ["a: [", "- a\n", "word"])
def test_nothing_is_written_over_what_is_not_understood(text):
    kube = Kube(OPENSHIFT, text)
    with pytest.raises(ModelMonitoringError, match="cluster-monitoring-config: config.yaml is not .*nothing was changed") as caught:
        monitoring.switch_on(kube)
    assert "\n" not in str(caught.value)
    assert not kube.written


@pytest.mark.parametrize("text", [None, COMMENTED])
def test_switch_on(text):
    kube = Kube(OPENSHIFT, text)
    found = monitoring.switch_on(kube)
    assert (found.user_workload, found.before, found.after) == (True, text, monitoring.with_switch(text or ""))
    assert kube.text == found.after
    again = monitoring.switch_on(kube)
    assert again.before == again.after == kube.text
    assert len(kube.written) == 1


def test_switch_on_in_check_mode():
    kube = Kube(OPENSHIFT, COMMENTED)
    found = monitoring.switch_on(kube, dry=True)
    assert (found.user_workload, found.before, found.after) == (True, COMMENTED, monitoring.with_switch(COMMENTED))
    assert (kube.text, kube.written) == (COMMENTED, ["All"])


@pytest.mark.parametrize("kube", [Kube(namespace=False), Kube(OPENSHIFT, "enableUserWorkload: true # ours\n")])
def test_nothing_to_switch(kube):
    found = monitoring.switch_on(kube)
    assert found.before == found.after
    assert not kube.written


def test_what_somebody_else_changes_meanwhile_is_kept():
    kube = Kube(OPENSHIFT, COMMENTED)
    kube.meanwhile = ["telemeterClient: {}\n"]
    monitoring.switch_on(kube)
    assert kube.text == "telemeterClient: {}\nenableUserWorkload: true\n"


def test_somebody_else_never_stops():
    kube = Kube(OPENSHIFT, COMMENTED)
    kube.meanwhile = [f"a: {number}\n" for number in range(9)]
    with pytest.raises(KubeError):
        monitoring.switch_on(kube)
    assert not kube.written
