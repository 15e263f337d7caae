# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the probes of traces and metrics share: hand telemetry to a collector, read the collector's own counters, say what they tell."""

from __future__ import annotations

import contextlib
import re
import sys
import typing as t
from dataclasses import dataclass, field

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _link, _otlp
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Http, Link, Target, Unreachable
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import Reply, Signal
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._polling import Clock, Sleep, poll

COLLECTOR_UNREACHABLE = "collector_unreachable"
COLLECTOR_REFUSED = "collector_refused"
COLLECTOR_EXPORT = "collector_export"

COLLECTOR_ARGS: dict[str, dict[str, t.Any]] = {
    "otlp_grpc_endpoint": {"type": "str"},
    "otlp_http_endpoint": {"type": "str"},
    "collector_metrics_endpoint": {"type": "str"},
    "protocols": {"type": "list", "elements": "str", "choices": ["grpc", "http"], "default": ["grpc", "http"]},
    "service_name": {"type": "str", "default": "model-monitoring-probe"},
    "send_timeout": {"type": "float", "default": 10},
    "otlp_ca_cert": {"type": "path"},
}
"""Argument spec of what every probe that sends to a collector takes; documented in the fragment ``collector``."""

SETTLE_SECONDS = 5.0
"""For how long an exporter of the collector may still be busy with what another one has delivered."""

REQUEST_SECONDS = 10.0
"""Most that one request for a page of metrics may take."""

Sender = t.Callable[[t.Any, float], Reply]
"""Hands an OTLP request to the collector in one attempt of so many seconds; raises Unreachable."""

_COUNTED = {
    "receiver_accepted": "accepted",
    "receiver_refused": "refused",
    "exporter_sent": "sent",
    "exporter_send_failed": "failed",
    "exporter_enqueue_failed": "dropped",
    "exporter_queue_size": "queued",
}
# By its configuration the collector adds the unit and "_total" to the names: exporter_sent_spans__spans__total.
_SAMPLE = re.compile(
    rf"otelcol_(?P<name>{'|'.join(_COUNTED)})(?:_(?P<items>spans|metric_points))?(?:__[a-z]+_?)?(?:_total)?(?P<labels>\{{.*\}})? (?P<value>\S+)"
)
_INSTANCE = re.compile(r'service_instance_id="([^"]+)"')
_EXPORTER = re.compile(r'\bexporter="([^"]+)"')
_KIND = re.compile(r'\bdata_type="([^"]*)"')


@dataclass(frozen=True)
class Exporter:
    """Items (spans, metric points) of one exporter of the collector: counted since the collector's start, or since the probe's start.

    ``queued`` is what waits in its queue now, in the queue's own unit (requests, unless configured otherwise).
    """

    sent: float = 0
    failed: float = 0
    dropped: float = 0
    queued: float = 0


@dataclass(frozen=True)
class Counters:
    """The collector's own counters of a signal. ``instance``: of the process that counts, None when it does not say."""

    accepted: float = 0
    refused: float = 0
    exporters: t.Mapping[str, Exporter] = field(default_factory=dict)
    instance: str | None = None


class Verdict(t.NamedTuple):
    """``hop``: where the telemetry was lost. ``message``: what was seen. ``cure``: what to do."""

    hop: str
    message: str
    cure: str


def parse_counters(text: str, signal: Signal) -> Counters:
    """Read the collector's own metrics (Prometheus text format, names with and without unit and ``_total``)."""
    receivers = {"accepted": 0.0, "refused": 0.0}
    exporters: dict[str, dict[str, float]] = {}
    for sample in filter(None, map(_SAMPLE.match, text.splitlines())):
        labels = sample["labels"] or ""
        name = _COUNTED[sample["name"]]
        exporter, kind = _EXPORTER.search(labels), _KIND.search(labels)
        if sample["items"] != (None if name == "queued" else signal.items) or (kind and kind[1] != signal.kind):
            continue
        counts = receivers if name in receivers else exporters.setdefault(exporter[1] if exporter else "?", {})
        counts[name] = counts.get(name, 0) + float(sample["value"])
    instance = _INSTANCE.search(text)
    return Counters(
        **receivers,
        exporters={name: Exporter(**counts) for name, counts in exporters.items()},
        instance=instance[1] if instance else None,
    )


def growth(before: Counters | str, after: Counters | str) -> Counters | str:
    """What was counted in between, or why that is not known."""
    if isinstance(before, str):
        return before
    if isinstance(after, str):
        return after
    if before.instance and after.instance and before.instance != after.instance:
        return "they came from two different instances: the collector has restarted or has several replicas"
    if after.accepted < before.accepted:
        return "they went backwards: the collector has restarted"
    exporters = {}
    for name, now in after.exporters.items():
        was = before.exporters.get(name, Exporter())
        exporters[name] = Exporter(now.sent - was.sent, now.failed - was.failed, now.dropped - was.dropped, now.queued)
    return Counters(after.accepted - before.accepted, after.refused - before.refused, exporters, after.instance)


def failed_exporters(counters: Counters | str) -> dict[str, Exporter]:
    """Those that gave telemetry up while some of it came in."""
    if isinstance(counters, str) or counters.accepted <= 0:
        return {}
    return {name: one for name, one in counters.exporters.items() if one.failed > 0 or one.dropped > 0}


def troubled_exporters(counters: Counters | str) -> dict[str, Exporter]:
    """Those that failed, and those that send nothing and have something waiting."""
    if isinstance(counters, str) or counters.accepted <= 0:
        return {}
    return failed_exporters(counters) | {name: one for name, one in counters.exporters.items() if one.sent <= 0 and one.queued > 0}


def stuck_exporters(counters: Counters | str) -> dict[str, Exporter]:
    """Those that send nothing at all while they should.

    Other than ``troubled_exporters`` it leaves out one that works and has failed with something: that need not be the probe's.
    """
    return {name: one for name, one in troubled_exporters(counters).items() if one.sent <= 0}


def settled_growth(before: Counters | str, counters: t.Callable[[], Counters | str], clock: Clock, sleep: Sleep) -> Counters | str:
    """The growth once no exporter is stuck any more, or after a while: what arrived in one place may still be on its way to another."""
    grown: list[Counters | str] = []

    def settled() -> bool:
        grown[:] = [growth(before, counters())]
        return not stuck_exporters(grown[0])

    poll(settled, SETTLE_SECONDS, clock, sleep)
    return grown[0]


def judge_other_exporters(counters: Counters | str, signal: Signal, arrived: str) -> Verdict | None:
    """Whether something that has arrived could not be exported to another place as well.

    :param arrived: where it did, in words.
    """
    stuck = stuck_exporters(counters)
    if not stuck:
        return None
    return Verdict(
        COLLECTOR_EXPORT,
        f"{arrived}, but the collector could not export it everywhere: {account(stuck, signal)}",
        'see in the collector\'s log why ("Exporting failed"), and correct the address or credentials of that exporter, or take it out',
    )


def account(exporters: t.Mapping[str, Exporter], signal: Signal) -> str:
    """What exporters counted, in words."""
    unit = signal.items.replace("_", " ")
    return "; ".join(
        f"exporter {name}: {one.sent:.0f} {unit} sent, {one.failed:.0f} failed, {one.dropped:.0f} dropped at a full queue,"
        f" queue size {one.queued:.0f}"
        for name, one in sorted(exporters.items())
    )


def judge_sending(sent: Reply | str, counters: Counters | str, signal: Signal) -> Verdict | None:
    """Whether the collector did not take what was sent, and why; None when it took it.

    :param sent: the collector's answer, or the reason why there was none.
    :param counters: their growth during the probe, or why it is not known.
    """
    if isinstance(sent, str):
        return Verdict(
            COLLECTOR_UNREACHABLE,
            f"the collector is not reachable at {sent}",
            "see that the collector's pod is Ready and that the endpoint names its Service and OTLP port",
        )
    if sent.accepted:
        return None
    unit = signal.items.replace("_", " ")
    if isinstance(counters, Counters):
        full = [name for name, one in counters.exporters.items() if one.dropped > 0]
        if full:
            return Verdict(
                COLLECTOR_EXPORT,
                f"the collector could not export: the sending queue of exporter {', '.join(sorted(full))} is full, so it refuses"
                f" new {unit} ({sent.code} {sent.text})",
                "see in the collector's log why the exporter does not get rid of them (address and state of what it exports to)",
            )
    cures = {
        ("partial success",): "see the message and the collector's log",
        ("UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403"): "it wants credentials: send to a receiver without authentication",
        ("UNIMPLEMENTED", "404", "405", "415"): (
            f"this port takes no {signal.kind} by this protocol: correct the endpoint, or add the OTLP receiver to a {signal.kind} pipeline"
        ),
        (*_otlp.RETRYABLE_GRPC, *map(str, _otlp.RETRYABLE_HTTP)): (
            f"it has no room (memory limiter), or what is behind the receiver does not take the {unit}: see its log, raise the memory limit"
            " of its container, or lower the load"
        ),
    }
    cure = next((text for codes, text in cures.items() if sent.code in codes), "see the collector's log")
    return Verdict(COLLECTOR_REFUSED, f"the collector refused the {signal.what}: {sent.code} {sent.text}".strip(), cure)


def send(request: t.Any, sender: Sender, timeout: float, clock: Clock, sleep: Sleep) -> tuple[Reply | str, float]:
    """Hand a request to the collector, again while its answer (or none) is one that may change.

    :param timeout: seconds for all attempts.
    :return: the answer, or why there was none, and the seconds that it took.
    """
    started = clock()
    sent: list[Reply | str] = ["not tried"]

    def attempt() -> bool:
        try:
            reply = sender(request, max(1.0, timeout - (clock() - started)))
        except Unreachable as exc:
            sent[0] = str(exc)
            return False
        sent[0] = reply
        return reply.accepted or not reply.retryable

    poll(attempt, timeout, clock, sleep)
    return sent[0], clock() - started


def targets(params: t.Mapping[str, t.Any], others: t.Mapping[str, str], api_client: t.Callable[[], t.Any]) -> dict[str, Target]:
    """The endpoints that a run needs, by parameter.

    :param params: of the module.
    :param others: endpoints beside the collector's: the parameter with the URL, and the one with the CA file. Left out where no URL is given.
    :raises ModelMonitoringError: an endpoint is missing, or one or its CA file is not usable.
    """
    if not params["protocols"]:
        raise ModelMonitoringError("protocols: the list is empty: give grpc, http or both")
    wanted = {f"otlp_{protocol}_endpoint": "otlp_ca_cert" for protocol in params["protocols"]}
    for parameter in wanted:
        if not params[parameter]:
            raise ModelMonitoringError(f"{parameter}: missing: give the URL of the receiver, or take its protocol out of protocols")
    wanted |= {parameter: ca_cert for parameter, ca_cert in others.items() if params[parameter]}
    found = {parameter: Target(params[parameter], parameter, params["via"], api_client, params[ca_cert]) for parameter, ca_cert in wanted.items()}
    for one in found.values():
        one.check()
    return found


def need_packages() -> None:
    """:raises ModelMonitoringError: a Python package is missing."""
    packages = "opentelemetry-sdk, opentelemetry-exporter-otlp-proto-grpc and urllib3"
    for error in (_otlp.IMPORT_ERROR, _link.IMPORT_ERROR):
        if error is not None:
            raise ModelMonitoringError(f"Python packages {packages} are needed for {sys.executable} ({error}): install them there with pip")


def senders(stack: contextlib.ExitStack, signal: Signal, protocols: t.Iterable[str], found: t.Mapping[str, Target]) -> dict[str, Sender]:
    """A sender for each protocol, whose connection lives as long as the stack."""
    made: dict[str, Sender] = {}
    for protocol in dict.fromkeys(protocols):
        collector = found[f"otlp_{protocol}_endpoint"]
        if protocol == "grpc":
            made[protocol] = _sender(stack.enter_context(_otlp.grpc_link(collector)), _otlp.export_grpc, signal)
        else:
            made[protocol] = _sender(stack.enter_context(_link.http_link(collector)), _otlp.export_http, signal)
    return made


def _sender(link: Link[t.Any], export: t.Callable[[t.Any, Signal, t.Any, float], Reply], signal: Signal) -> Sender:
    return lambda request, timeout: link.use(lambda connection: export(connection, signal, request, timeout))


def ways(params: t.Mapping[str, t.Any]) -> str:
    """How a probe sends, in words."""
    return " and ".join(f"over OTLP {one} to {params[f'otlp_{one}_endpoint']}" for one in params["protocols"])


def page(link: Link[Http] | None, parameter: str) -> tuple[str, str]:
    """A page of metrics in Prometheus' text format.

    :return: the page, and why it cannot be had; one of them is empty.
    """
    if link is None:
        return "", f"{parameter} was not given"
    try:
        answer = link.use(lambda http: http.request("GET", "/metrics", timeout=REQUEST_SECONDS))
    except Unreachable as exc:
        return "", str(exc)
    if answer.status != 200:
        return "", f"{answer.status} {answer.text}"
    return answer.body.decode("utf-8", "replace"), ""


def read_counters(link: Link[Http] | None, signal: Signal) -> Counters | str:
    """The collector's counters now, or why they cannot be had."""
    text, trouble = page(link, "collector_metrics_endpoint")
    return trouble or parse_counters(text, signal)


def explain(signal: Signal, proofs: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """One line for all that was lost; the same loss over several protocols is told once."""
    protocols: dict[str, list[str]] = {}
    for proof in proofs:
        if proof["hop"]:
            protocols.setdefault(proof["message"], []).append(proof["protocol"])
    return " | ".join(f"{signal.what} sent over OTLP {' and '.join(names)}: {message}" for message, names in protocols.items())
