# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The verdict as a table, and the course of a probe of metrics on a fake clock."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _metric_probe as mp
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _prometheus
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Unreachable
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import Reply
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._probe import (
    COLLECTOR_EXPORT,
    COLLECTOR_REFUSED,
    COLLECTOR_UNREACHABLE,
    Counters,
    Exporter,
)
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import PrometheusError, Sample, ScrapeTarget

ACCEPTED = Reply(True)
WANTED = {"namespace": "demo", "service": "c"}
LATE = "not after 10 s"
DENIED = PrometheusError("Prometheus refuses the query: 403 Forbidden: let it read", 403, hopeless=True)
DOWN = PrometheusError("Prometheus is not reachable at http://p:9090: refused: see that its pod is Ready")


def counters(accepted: float = 1, **exporters: Exporter) -> Counters:
    return Counters(accepted, 0, exporters, "a")


SENT = counters(prometheus=Exporter(sent=1))
FAILING = counters(prometheus=Exporter(sent=1), remote=Exporter(failed=1))
RETRYING = counters(prometheus=Exporter(sent=1), remote=Exporter(queued=1))
UP, BAD, NEW = (
    ScrapeTarget(WANTED, health, "http://10.0.0.1:8889/metrics", error) for health, error in (("up", ""), ("down", "refused"), ("unknown", ""))
)


@pytest.mark.parametrize(
    ("seen", "hop", "words"),
    [
        ({"found": True}, None, ()),
        ({"found": True, "counters": "no metrics"}, None, ()),
        ({"found": True, "page": "http://c:8889: refused", "unread": True}, None, ()),
        # The remote write that was asked for does not work: Prometheus has it, and somebody else has not.
        ({"found": True, "counters": FAILING}, COLLECTOR_EXPORT, ("Prometheus has the metric", "exporter remote: 0 metric points sent, 1 failed")),
        ({"found": True, "counters": counters(prometheus=Exporter(sent=1), remote=Exporter(sent=4, failed=1))}, None, ()),
        ({"found": True, "counters": RETRYING}, COLLECTOR_EXPORT, ("exporter remote", "queue size 1")),
        ({"sent": "http://c:4317: Connection refused"}, COLLECTOR_UNREACHABLE, ("http://c:4317",)),
        ({"sent": Reply(False, "UNIMPLEMENTED", "unknown service")}, COLLECTOR_REFUSED, ("takes no metrics", "metrics pipeline")),
        ({"sent": Reply(False, "UNAVAILABLE", "full"), "counters": counters(remote=Exporter(dropped=1))}, COLLECTOR_EXPORT, ("remote is full",)),
        ({"page": LATE}, mp.EXPORTER_PAGE, ("does not show it: not after 10 s", "exporter prometheus is in the metrics pipeline")),
        ({"page": LATE, "counters": counters(prometheus=Exporter(failed=1))}, mp.EXPORTER_PAGE, ("exporter prometheus: 0", "Exporting failed")),
        ({"page": LATE, "error": DOWN}, mp.EXPORTER_PAGE, ("does not show it",)),
        ({"error": DENIED}, mp.PROMETHEUS_QUERY, ("403 Forbidden: let it read",)),
        ({"error": DOWN}, mp.PROMETHEUS_QUERY, ("not reachable at http://p:9090",)),
        ({"targets": None}, mp.SCRAPE_TARGET, ("after 150 s", "scrape_labels")),
        ({"targets": []}, mp.SCRAPE_TARGET, ('no scrape target {namespace="demo",service="c"} after 150 s', "up to two minutes")),
        ({"targets": [], "page": "http://c:8889: refused", "unread": True}, mp.SCRAPE_TARGET, ("no scrape target", "could not be read: http://c:8889")),
        ({"targets": [BAD]}, mp.SCRAPE_TARGET, ("in vain", "http://10.0.0.1:8889/metrics is down (refused)", "NetworkPolicy")),
        ({"targets": [NEW]}, mp.SCRAPE_TARGET, ("is unknown",)),
        ({"targets": [BAD, UP]}, mp.PROMETHEUS_STORE, ("scrapes", "metricRelabelings")),
    ],
)  # fmt: skip
def test_judge_names_the_first_hop_that_lost_the_metric(seen, hop, words) -> None:
    given = {"sent": ACCEPTED, "counters": SENT, "targets": [], "wanted": WANTED, "waited": 150, **seen}
    verdict = mp.judge(mp.Observation(**given))
    assert (verdict and verdict.hop) == hop
    for word in words:
        assert verdict is not None and word in f"{verdict.message}: {verdict.cure}"


PAGE = """\
# HELP private_ai_probe_timestamp_seconds Time
# TYPE private_ai_probe_timestamp_seconds gauge
private_ai_probe_timestamp_seconds{job="p",protocol="grpc",otel_scope_name="x"} 1.764097142123e+09
private_ai_probe_timestamp_seconds{protocol="http"} 1764097142.5
private_ai_probe_timestamp_seconds_total{protocol="grpc"} 3
other{protocol="grpc"} 4
"""


@pytest.mark.parametrize(
    ("protocol", "value", "there"),
    [
        ("grpc", 1764097142.123, True),
        ("http", 1764097142.5, True),
        ("http", 1764097142.123, False),
        ("grpc", 3.0, False),
        ("grpc", 4.0, False),
        ("udp", 4.0, False),
    ],
)
def test_a_metric_is_found_on_a_page_by_protocol_and_value(protocol, value, there) -> None:
    assert mp.on_page(PAGE, protocol, value) is there


def test_the_query_finds_the_value_exactly() -> None:
    assert mp.promql("grpc", 1764097142.123) == 'private_ai_probe_timestamp_seconds{protocol="grpc"} == 1764097142.123'


class World:
    """Collector, its page and Prometheus; every request takes 10 ms, times are seconds after the metric was accepted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.page_after = 0.2
        self.scraped_after = 15.0
        self.page_error = ""
        self.error: PrometheusError | None = None
        self.error_until = 1e9
        self.grown: list[Counters | str] = [SENT]
        self.asked: list[str] = []
        self.sent: list[tuple[str, float]] = []
        self.accepted_at: dict[str, float] = {}
        self.points: dict[str, float] = {}

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def sender(self, *replies: Reply | Unreachable):
        rest = list(replies)

        def send(request, timeout: float) -> Reply:
            self.now += 0.01
            reply = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(reply, Unreachable):
                raise reply
            if reply.accepted:
                (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
                (point,) = metric.gauge.data_points
                protocol = point.attributes[0].value.string_value
                self.sent.append((protocol, point.time_unix_nano / 1e9))
                self.accepted_at.setdefault(protocol, self.now)
                self.points[protocol] = point.as_double
            return reply

        return send

    def page(self) -> tuple[str, str]:
        self.now += 0.01
        self.asked.append("page")
        if self.page_error:
            return "", self.page_error
        lines = [
            f'{mp.PROBE_METRIC}{{protocol="{protocol}"}} {value!r}'
            for protocol, value in self.points.items()
            if self.now - self.accepted_at[protocol] >= self.page_after
        ]
        return "\n".join(lines), ""

    def query(self, promql: str) -> list[Sample]:
        self.now += 0.01
        self.asked.append(promql)
        if self.error and self.now - 1000 < self.error_until:
            raise self.error
        return [
            Sample({}, value)
            for protocol, value in self.points.items()
            if promql == mp.promql(protocol, value) and self.now - self.accepted_at[protocol] >= self.scraped_after
        ]

    def targets(self):
        self.asked.append("targets")
        return []

    def counters(self) -> Counters | str:
        self.asked.append("counters")
        if self.asked.count("counters") == 1:
            return Counters(instance="a")
        return self.grown.pop(0) if len(self.grown) > 1 else self.grown[0]

    def probe(self, page=True, **senders):
        return mp.probe(
            senders or {"grpc": self.sender(ACCEPTED), "http": self.sender(ACCEPTED)}, self.page if page else None, self, self.targets, WANTED,
            self.counters, mp.Limits(10, 10, 150), "probe", self.clock, self.sleep, lambda: self.now + 1e9,
        )  # fmt: skip


@pytest.fixture
def world() -> World:
    return World()


def test_a_metric_that_arrives_is_proven_with_its_latencies(world) -> None:
    grpc, http = world.probe()
    assert (grpc["protocol"], http["protocol"]) == ("grpc", "http")
    for proof in (grpc, http):
        assert proof["hop"] is None and proof["message"] is None
        assert proof["send_seconds"] == pytest.approx(0.01)
        assert 0.2 <= proof["page_seconds"] < 0.4
        assert 15 <= proof["prometheus_seconds"] < 16.1
        assert proof["promql"] == mp.promql(proof["protocol"], proof["value"])
    assert "targets" not in world.asked, "asked for reasons although nothing was lost"


def test_without_a_page_only_prometheus_is_asked(world) -> None:
    grpc, _http = world.probe(page=False)
    assert grpc["hop"] is None and grpc["page_seconds"] is None and "page" not in world.asked


def test_it_is_sent_again_with_the_same_value_and_a_new_time(world) -> None:
    """So that it wins against another probe's, which may have come later."""
    world.scraped_after = 35
    (grpc,) = world.probe(grpc=world.sender(ACCEPTED))
    times = [time for _protocol, time in world.sent]
    assert len(set(times)) == len(times) >= 35 / (mp.RESEND_SECONDS + 1)
    assert grpc["hop"] is None and world.points["grpc"] == grpc["value"]


def test_what_is_not_on_the_page_is_not_waited_for(world) -> None:
    world.page_after = 1e9
    grpc, http = world.probe()
    assert grpc["hop"] == http["hop"] == mp.EXPORTER_PAGE
    assert len(world.sent) > 4  # another probe's may have come after ours
    assert world.now - 1000 < 12 and not any("==" in one for one in world.asked)


def test_a_page_that_cannot_be_read_does_not_hinder_the_proof(world) -> None:
    world.page_error = "http://c:8889: refused"
    assert all(proof["hop"] is None and proof["page_seconds"] is None for proof in world.probe())


def test_a_metric_that_is_never_scraped_ends_in_time(world) -> None:
    world.scraped_after = 1e9
    grpc, _http = world.probe()
    assert grpc["hop"] == mp.SCRAPE_TARGET and "after 150 s" in grpc["message"]
    assert world.now - 1000 < 165 and len(world.asked) < 450, "not a busy loop"


def test_a_refusal_of_prometheus_ends_it_at_once(world) -> None:
    world.error = DENIED
    grpc, http = world.probe()
    assert grpc["hop"] == http["hop"] == mp.PROMETHEUS_QUERY
    assert world.now - 1000 < 2 and "targets" not in world.asked


def test_a_prometheus_that_never_answers_is_given_up_early(world) -> None:
    world.error = DOWN
    grpc, _http = world.probe()
    assert grpc["hop"] == mp.PROMETHEUS_QUERY and world.now - 1000 < 25


def test_a_prometheus_that_restarts_is_waited_for(world) -> None:
    world.error, world.error_until = PrometheusError("503: see its log", 503), 40
    assert all(proof["hop"] is None for proof in world.probe())


def test_one_protocol_that_is_refused_does_not_hinder_the_other(world) -> None:
    grpc, http = world.probe(grpc=world.sender(Unreachable("refused")), http=world.sender(ACCEPTED))
    assert grpc["hop"] == COLLECTOR_UNREACHABLE and grpc["send_seconds"] is None and http["hop"] is None


def test_no_metric_was_accepted_and_nobody_is_asked_for_it(world) -> None:
    (grpc,) = world.probe(grpc=world.sender(Reply(False, "UNAUTHENTICATED", "who?")))
    assert grpc["hop"] == COLLECTOR_REFUSED and set(world.asked) == {"counters"}


def test_an_exporter_that_is_still_busy_is_given_time(world) -> None:
    world.scraped_after, world.grown = 0, [RETRYING, RETRYING, RETRYING, SENT]
    assert all(proof["hop"] is None for proof in world.probe())
    world.__init__()
    world.scraped_after, world.grown = 0, [RETRYING]
    assert {proof["hop"] for proof in world.probe()} == {COLLECTOR_EXPORT} and world.now - 1000 < 8


PARAMS = {
    "protocols": ["grpc"], "otlp_grpc_endpoint": "http://c.demo.svc:4317", "otlp_http_endpoint": None, "otlp_ca_cert": None, "via": "auto",
    "exporter_endpoint": "http://c.demo.svc:8889", "collector_metrics_endpoint": None, "scrape_labels": None,
    **dict.fromkeys(_prometheus.PROMETHEUS_ARGS),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({}, WANTED),
        ({"exporter_endpoint": "http://127.0.0.1:8889"}, None),
        ({"exporter_endpoint": None}, None),
        ({"exporter_endpoint": None, "scrape_labels": {"job": "otel", "n": 1}}, {"job": "otel", "n": "1"}),
    ],
)
def test_the_scrape_target_is_that_of_the_service_unless_it_is_given(change, labels) -> None:
    assert mp.scrape_labels({**PARAMS, **change}) == labels


def test_plan_says_what_would_be_proven_and_needs_no_cluster(monkeypatch) -> None:
    monkeypatch.setattr(mp._polling._kube, "connect", lambda params: pytest.fail("connected"))
    said = mp.plan(PARAMS)
    assert "OTLP grpc to http://c.demo.svc:4317" in said and "OpenShift's Service thanos-querier" in said
    assert "http://p:9090" in mp.plan({**PARAMS, "prometheus_endpoint": "http://p:9090"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exporter_endpoint": "c:8889"}, "exporter_endpoint: 'c:8889' has no scheme"),
        ({"prometheus_endpoint": "https://u:secret@p"}, "prometheus_endpoint"),
        ({"otlp_grpc_endpoint": None}, "otlp_grpc_endpoint: missing"),
        ({"prometheus_endpoint": "https://p", "prometheus_ca_cert": "/no"}, "the CA file '/no' cannot be read"),
    ],
)
def test_unusable_parameters_are_named(change, words) -> None:
    with pytest.raises(ModelMonitoringError) as error:
        mp.plan({**PARAMS, **change})
    assert words in str(error.value) and "secret" not in str(error.value)
