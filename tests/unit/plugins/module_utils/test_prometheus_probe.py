# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""How it stands with monitors and queries, and the course of a probe on a fake clock."""

from __future__ import annotations

import math

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _prometheus_probe as pp
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._monitors import Monitor, Selected
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import PrometheusError, Rule, Sample, ScrapeTarget

MONITOR = Monitor("ServiceMonitor", "collector", "demo")
OPTIONAL = Monitor("PodMonitor", "models", "demo", required=False)
ONE = {"namespace": "demo", "service": "c"}
TWO = {"namespace": "demo", "service": "d"}


def up(labels: dict, value: float = 1) -> Sample:
    return Sample({**labels, "instance": "10.0.0.1:80"}, value)


@pytest.mark.parametrize(
    ("selected", "samples", "state", "words"),
    [
        (Selected([ONE]), [up(ONE)], pp.UP, ""),
        (Selected([ONE, TWO]), [up(ONE), up(TWO), up(TWO)], pp.UP, ""),
        (Selected([ONE]), [up(ONE), up(ONE, 0)], pp.DOWN, "1 of its targets are down"),
        (Selected([ONE, TWO]), [up(TWO)], pp.ABSENT, 'no target for {namespace="demo",service="c"}'),
        (Selected([ONE]), [], pp.ABSENT, "no target"),
        (Selected(trouble="it selects nothing"), [], pp.NOTHING_SELECTED, "it selects nothing"),
        (None, [up(ONE)], pp.MISSING, "does not exist"),
    ],
)
def test_a_monitor_is_judged(selected, samples, state, words) -> None:
    finding = pp.judge_monitor(MONITOR, selected, samples)
    assert finding.state == state and words in finding.text
    assert bool(finding.cure) == (state != pp.UP)


@pytest.mark.parametrize(
    ("state", "required", "well"),
    [(pp.UP, True, True), (pp.DOWN, False, False), (pp.ABSENT, False, False)]
    + [(state, required, not required) for state in (pp.NOTHING_SELECTED, pp.MISSING) for required in (True, False)],
)
def test_only_what_is_not_required_may_be_away(state, required, well) -> None:
    assert pp.MonitorFinding(Monitor("ServiceMonitor", "a", "b", required), state).well is well


A, B = {"model_name": "a"}, {"model_name": "b"}
FIGURE = pp.Query("figure", "figure", [A])


@pytest.mark.parametrize(
    ("found", "idle", "states"),
    [
        ([Sample({**A, "quantile": "0.5"}, 1.5), Sample(B, 0)], [], ["data", "data"]),
        ([Sample(A, 1)], [], ["data", "missing"]),
        ([Sample(A, 1), Sample(B, math.nan)], [], ["data", "missing"]),
        ([Sample(A, 1), Sample(B, math.nan), Sample({**B, "quantile": "0.5"}, 2)], [], ["data", "data"]),
        ([Sample(A, 1)], [Sample(B, 0)], ["data", "idle"]),
        ([], [Sample({}, 0)], ["missing", "missing"]),
    ],
)
def test_a_query_is_judged(found, idle, states) -> None:
    finding = pp.judge_query(pp.Query("q", "q", [A, B]), found, idle)
    assert [one.state for one in finding.series] == states
    assert [one.value for one in finding.series if one.state != "data"] == [None] * (2 - states.count("data"))


def test_any_series_will_do_where_none_is_named() -> None:
    assert pp.judge_query(pp.Query("q", "q"), [Sample(A, 1)]).missing == []
    assert len(pp.judge_query(pp.Query("q", "q"), []).missing) == 1
    assert pp.judge_query(pp.Query("q", "q", []), []).missing == []


RULES = [Rule("good", "ok"), Rule("bad", "err", "many-to-many matching")]


@pytest.mark.parametrize(
    ("query", "rules", "words"),
    [
        ("good", RULES, "loaded and without error"),
        ("bad", RULES, "its recording rule fails: many-to-many matching"),
        ("other", RULES, "no recording rule of that name is loaded"),
        ("sum(up)", RULES, "no data for"),
        ("good", None, "no data for"),
    ],
)
def test_the_state_of_a_rule_explains_what_is_missing(query, rules, words) -> None:
    finding = pp.explain_query(pp.judge_query(pp.Query("q", query, [A]), []), rules)
    assert words in finding.text and '{model_name="a"}' in finding.text and finding.cure


def test_a_target_that_is_down_is_told_with_its_url_and_error() -> None:
    finding = pp.judge_monitor(MONITOR, Selected([ONE]), [up(ONE, 0)])
    targets = [ScrapeTarget(up(ONE).labels, "down", "http://10.0.0.1:80/metrics", "connection refused"), ScrapeTarget(TWO, "down", "http://x", "no")]
    assert pp.explain_monitor(finding, targets, lambda namespace: False).text.endswith("down: http://10.0.0.1:80/metrics (connection refused)")
    assert 'service="c"' in pp.explain_monitor(finding, [], lambda namespace: False).text


def test_a_namespace_that_is_left_out_explains_an_absent_target() -> None:
    finding = pp.judge_monitor(MONITOR, Selected([ONE]), [])
    assert "openshift.io/user-monitoring=false" in pp.explain_monitor(finding, [], lambda namespace: namespace == "demo").cure
    assert "openshift" not in pp.explain_monitor(finding, [], lambda namespace: False).cure


class World:
    """Prometheus and API server; times are seconds on the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.up_from = 0.0
        self.data_from = 0.0
        self.error: PrometheusError | None = None
        self.answers_from = 0.0
        self.selected_: Selected | None = Selected([ONE])
        self.asked: list[str] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def query(self, promql: str) -> list[Sample]:
        self.now += 0.01
        self.asked.append(promql)
        if self.error and self.now - 1000 < self.answers_from:
            raise self.error
        if promql.startswith("up{"):
            return [up(ONE)] if self.now - 1000 >= self.up_from else []
        if promql == "figure":
            return [Sample(A, 1)] if self.now - 1000 >= self.data_from else []
        return [Sample({}, 1)]

    def targets(self):
        return []

    def recording_rules(self):
        return RULES

    def spec(self, monitor):
        return None if self.selected_ is None else {}

    def selected(self, monitor, spec):
        return self.selected_

    def left_out(self, namespace):
        return False

    def probe(self, monitors=(MONITOR,), queries=(FIGURE,), timeout=150):
        return pp.probe(self, self, monitors, queries, timeout, self.clock, self.sleep)


@pytest.fixture
def world() -> World:
    return World()


def test_all_is_well_at_once(world) -> None:
    found = world.probe()
    assert pp.failures(found) == "" and found.seconds < 0.1
    assert world.asked == ["vector(1)", 'up{namespace=~"demo"}', "figure"]


def test_what_comes_late_is_waited_for_and_timed(world) -> None:
    world.up_from, world.data_from = 40, 70
    found = world.probe()
    assert pp.failures(found) == ""
    assert 40 <= found.monitors[0].seconds < 46 and 70 <= found.queries[0].seconds < 76
    assert world.asked.count('up{namespace=~"demo"}') < 30, "settled monitors are not asked for again, and it is no busy loop"


def test_what_never_comes_ends_in_time_with_reasons(world) -> None:
    world.up_from = world.data_from = 1e9
    found = world.probe()
    assert 150 <= found.seconds < 156
    said = pp.failures(found)
    assert "ServiceMonitor collector in namespace demo: Prometheus has no target" in said and "figure: no data" in said and " | " in said


def test_what_cannot_come_is_not_waited_for(world) -> None:
    world.selected_ = Selected(trouble="its selector a=b selects no Service")
    found = world.probe()
    assert found.seconds < 1
    assert "its selector a=b selects no Service" in pp.failures(found) and pp.warnings(found) == []
    world.selected_ = None
    assert "does not exist" in pp.failures(world.probe())


def test_nothing_selected_is_a_warning_where_that_is_allowed(world) -> None:
    world.selected_ = Selected(trouble="its selector a=b selects no Pod; labels there: x: c=d")
    found = world.probe(monitors=[OPTIONAL])
    assert pp.failures(found) == ""
    assert pp.warnings(found) == ["PodMonitor models in namespace demo: its selector a=b selects no Pod; labels there: x: c=d"]


def test_an_idle_model_is_not_waited_for(world) -> None:
    world.data_from = 1e9
    found = world.probe(queries=[pp.Query("figure", "figure", [{}], idle="idle")])
    assert [one.state for one in found.queries[0].series] == ["idle"] and pp.failures(found) == "" and found.seconds < 1


def test_a_refusal_ends_it_at_once(world) -> None:
    world.error, world.answers_from = PrometheusError("401", 401, hopeless=True), 1e9
    with pytest.raises(PrometheusError):
        world.probe()
    assert world.now - 1000 < 1


def test_a_prometheus_that_never_answers_is_given_up_early(world) -> None:
    world.error, world.answers_from = PrometheusError("refused"), 1e9
    with pytest.raises(PrometheusError):
        world.probe()
    assert 15 < world.now - 1000 < 25


def test_a_prometheus_that_restarts_is_waited_for(world) -> None:
    world.error, world.answers_from = PrometheusError("refused"), 10
    assert pp.failures(world.probe()) == ""
    world.error, world.answers_from = PrometheusError("503", 503), 60
    assert pp.failures(world.probe()) == "" and world.now - 1000 >= 60


def test_a_wrong_query_is_named(world) -> None:
    def query(promql):
        if promql == "sum(":
            raise PrometheusError("Prometheus does not take the query: parse error", 400, hopeless=True)
        return []

    world.query = query
    with pytest.raises(PrometheusError, match=r"query mine: .*parse error"):
        world.probe(monitors=[], queries=[pp.Query("mine", "sum(")])


def test_without_anything_to_look_for_it_proves_that_prometheus_answers(world) -> None:
    world.probe(monitors=[], queries=[], timeout=0)
    assert world.asked == ["vector(1)"]


def test_the_result_is_plain_data(world) -> None:
    assert pp.result(world.probe()) == {
        "seconds": 0.03,
        "monitors": [
            {
                "kind": "ServiceMonitor", "name": "collector", "namespace": "demo", "required": True,
                "state": "up", "targets": 1, "seconds": 0.02, "message": None,
            }
        ],
        "queries": [
            {
                "name": "figure", "query": "figure", "series": [{"labels": A, "state": "data", "value": 1}],
                "seconds": 0.03, "message": None,
            }
        ],
    }  # fmt: skip


PARAMS = {
    "prometheus_endpoint": None, "prometheus_token": None, "prometheus_service_account": None, "prometheus_ca_cert": None, "via": "auto",
    "monitors": [], "queries": [{"name": "q", "query": "q", "expected": [{"a": 1}], "idle": None}],
}  # fmt: skip


def test_plan_says_what_would_be_looked_at_and_needs_no_cluster(monkeypatch) -> None:
    monkeypatch.setattr(pp._kube, "Kube", lambda client: pytest.fail("connected"))
    assert "0 monitors and 1 queries in Prometheus (OpenShift's Service thanos-querier" in pp.plan(PARAMS)
    assert "(http://p:9090)" in pp.plan({**PARAMS, "prometheus_endpoint": "http://p:9090"})
    with pytest.raises(ModelMonitoringError, match="prometheus_endpoint"):
        pp.plan({**PARAMS, "prometheus_endpoint": "p:9090"})
