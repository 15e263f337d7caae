# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""dashboard_probe and the collection's dashboards with a real Grafana, Prometheus and Tempo on loopback.

GRAFANA_BINARY, PROMETHEUS_BINARY and TEMPO_BINARY name the programs. The series are those of metrics.md with the labels that they have on a
cluster; the traces have the spans of a gateway and its models.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import servers
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from servers import GrafanaServer, PrometheusServer, TempoServer, free_port

OURS = Path(__file__).parents[2] / "roles" / "grafana" / "files" / "dashboards"
UIDS = sorted(path.stem for path in OURS.glob("*.json"))
MODELS = ("mistral-24b", "mistral-24b-quantized")
Run = functools.partial(servers.Run, "dashboard_probe")


# What the servers hold


def page(started: float) -> str:
    """Metrics in Prometheus' text format: gauges as they are, counters that grow."""
    age = time.time() - started + 60
    lines: list[str] = []

    def put(name: str, value: float, **labels: str) -> None:
        pairs = ",".join(f'{key}="{text}"' for key, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value}")

    def histogram(name: str, **labels: str) -> None:
        for limit, share in (("0.1", 0.2), ("1", 0.8), ("5", 1.0), ("+Inf", 1.0)):
            put(f"{name}_bucket", int(age * 10 * share), **labels, le=limit)

    for place, model in enumerate(MODELS):
        for name in ("running", "waiting", "per_second"):
            put(f"vllm_requests_{name}", place + 1, model_name=model)
        for name in ("vllm_request_error_ratio", "vllm_tokens_per_second", "vllm_prompt_tokens_per_second", "vllm_kv_cache_usage_ratio"):
            put(name, 0.5, model_name=model)
        for name in ("time_to_first_token", "inter_token_latency", "e2e_request_latency", "request_queue_time"):
            for quantile in ("0.5", "0.95", "0.99"):
                put(f"vllm_{name}_seconds", float(quantile), model_name=model, quantile=quantile)
        put("vllm:num_requests_running", 1, model_name=model, pod=f"pod-{place}")
        for name in ("GPU_UTIL", "FB_USED", "POWER_USAGE"):
            put(f"DCGM_FI_DEV_{name}", 50, gpu=str(place), Hostname="node", exported_namespace="demo", exported_pod=f"pod-{place}")
        for service, span in (("lab-gateway", f"chat {model}"), (model, "llm_request")):
            labels = {"service_name": service, "span_name": span, "gen_ai_request_model": model, "gen_ai_operation_name": "chat"}
            histogram("traces_span_metrics_duration_seconds", **labels)
            put("traces_span_metrics_calls_total", int(age * 10), **labels)
        put("traces_service_graph_request_total", int(age * 10), client="lab-gateway", server=model, connection_type="")
        for name, value in (("score", 0.8 - 0.3 * place), ("score_stderr", 0.03)):
            put(f"lm_eval_{name}", value, model=model, task="arc_easy", metric="acc", filter="none")
        for name, value in (("samples", 100), ("completion_time", started), ("job_state", 2)):
            put(f"lm_eval_{name}", value, model=model, task="arc_easy")
    histogram("traces_span_metrics_duration_seconds", service_name="lab-gateway", span_name="retrieval documents", gen_ai_operation_name="retrieval")
    put("lm_eval_newest_result_timestamp_seconds", started)
    put("model_monitoring_token_expiry_timestamp_seconds", started + 86400, token="grafana")
    put("otelcol_receiver_accepted_spans_total", int(age * 10), receiver="otlp")
    put("otelcol_exporter_sent_spans_total", int(age * 10), exporter="otlp/tempo")
    for name, value in (("size", 1), ("capacity", 1000)):
        put(f"otelcol_exporter_queue_{name}", value, exporter="otlp/tempo", data_type="traces")
    put("otelcol_process_memory_rss_bytes", 1e8, pod="collector")
    put("tempo_distributor_spans_received_total", int(age * 10), tenant="single-tenant")
    put("tempo_ingester_blocks_flushed_total", 1)
    put("tempo_ingester_failed_flushes_total", 0)
    put("tempodb_backend_bytes_total", 1e6, tenant="single-tenant", status="live")
    put("minio_bucket_usage_total_bytes", 1e6, bucket="traces")
    return "\n".join(lines) + "\n"


def send_traces(endpoint: str) -> None:
    """Requests of a gateway to two models, every second with a retrieval, one of them slow, one of them failed."""
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True)
    processor = BatchSpanProcessor(exporter)

    def tracer(service: str):
        provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        return provider.get_tracer("test")

    gateway, models = tracer("lab-gateway"), {model: tracer(model) for model in MODELS}
    now = time.time_ns()
    for number in range(6):
        model = MODELS[number % 2]
        begun, took = now - number * 10**9, (1500 if number == 1 else 300) * 10**6
        chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        root = gateway.start_span("POST /v1/chat/completions", kind=SpanKind.SERVER, start_time=begun)
        inside = set_span_in_context(root)
        if number % 2:
            attributes = {"gen_ai.operation.name": "retrieval"}
            gateway.start_span("retrieval documents", inside, SpanKind.CLIENT, attributes, start_time=begun).end(begun + 20 * 10**6)
        client = gateway.start_span(f"chat {model}", inside, SpanKind.CLIENT, chat, start_time=begun)
        server = models[model].start_span("llm_request", set_span_in_context(client), SpanKind.SERVER, chat, start_time=begun)
        if number == 2:
            server.set_status(Status(StatusCode.ERROR, "context too long"))
        else:
            client.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 20})
            server.set_attributes({"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 20})
        for span in (server, client, root):
            span.end(begun + took)
    assert processor.force_flush()
    processor.shutdown()


@pytest.fixture(scope="module")
def exposed():
    """The page of metrics: ``url``, and ``without``, names of series that it leaves out."""

    class Page(http.server.BaseHTTPRequestHandler):
        without: tuple[str, ...] = ()
        started = time.time()

        def do_GET(self) -> None:
            text = "".join(line for line in page(self.started).splitlines(keepends=True) if not line.startswith(self.without))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Page.url = f"http://127.0.0.1:{server.server_port}"
    yield Page
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, exposed):
    """Grafana with the collection's dashboards in a folder, over a Prometheus and a Tempo that have data."""
    folder = tmp_path_factory.mktemp("stack")
    with (
        PrometheusServer(folder / "prometheus", {"all": exposed.url}) as prometheus,
        TempoServer(folder / "tempo") as tempo,
        GrafanaServer(folder / "grafana") as grafana,
    ):
        send_traces(tempo.otlp)
        prometheus.scraping()
        grafana.prometheus, grafana.tempo = prometheus, tempo
        grafana.add_source("prometheus", "prometheus", prometheus.url, timeInterval="1s")
        grafana.add_source("tempo", "tempo", tempo.url, serviceMap={"datasourceUid": "prometheus"})
        grafana.call("POST", "/api/folders", {"uid": "ours", "title": "Model monitoring"})
        for uid in UIDS:
            grafana.add_dashboard(json.loads((OURS / f"{uid}.json").read_text()), "ours")
        yield grafana


def run(grafana: GrafanaServer, check: bool = False, **more) -> servers.Run:
    arguments = {"grafana_endpoint": grafana.url, "grafana_username": "admin", "grafana_password": grafana.password, "dashboards": UIDS, "timeout": 0}
    done = Run({name: value for name, value in {**arguments, **more}.items() if value is not None}, check=check)
    assert grafana.password not in json.dumps(done.result.get("panels", [])) + str(done.result.get("msg"))
    return done


def problems(grafana: GrafanaServer, **more) -> list[str]:
    result = run(grafana, **more).result
    assert all(problem in result.get("msg", "") and "\n" not in problem for problem in result["problems"])
    return result["problems"]


# All is well


def test_every_panel_shows_data_but_those_that_may_be_empty(stack) -> None:
    assert not run(stack, timeout=90).result.get("failed")  # what may be empty is not waited for: it has had time now
    result = run(stack, timeout=90).result
    assert not result.get("failed"), result["msg"]
    assert {board["uid"]: board["panels"] for board in result["dashboards"]} == {
        uid: sum(panel["type"] != "row" for panel in json.loads((OURS / f"{uid}.json").read_text())["panels"]) for uid in UIDS
    }
    empty = {panel["panel"] for panel in result["panels"] if panel["state"] != "data"}
    # A result of the last minutes is not yet in a history of a week.
    never = {"Alerts", "Statistical parity difference", "Disparate impact ratio", "Mean shift of inputs", "Guardrails: share of detections"}
    assert never <= empty <= never | {"History"}
    assert max(panel["seconds"] for panel in result["panels"]) < 10


def test_variables_have_the_values_of_a_first_opening(stack) -> None:
    found = {board["uid"]: board["variables"] for board in run(stack, timeout=60).result["dashboards"]}
    assert found["ai-ml-performance"]["namespace"] == ["demo"] and found["ai-ml-performance"]["model"] == list(MODELS)
    assert (found["model-quality"]["full"], found["model-quality"]["quantized"]) == ([MODELS[0]], [MODELS[1]])
    assert found["tempo-trace-explorer"]["service"] == ["lab-gateway", *MODELS] and found["tempo-trace-explorer"]["slow"] == ["1s"]
    assert {values["prometheus"][0] for values in found.values()} == {"prometheus"}


def test_the_folder_holds_the_same_dashboards(stack) -> None:
    for folder in ("ours", "Model monitoring"):
        found = run(stack, dashboards=[], folder=folder, timeout=60).result["dashboards"]
        assert sorted(board["uid"] for board in found) == UIDS


def test_a_viewers_token_is_enough(stack) -> None:
    account = stack.call("POST", "/api/serviceaccounts", {"name": "viewer", "role": "Viewer"})
    token = stack.call("POST", f"/api/serviceaccounts/{account['id']}/tokens", {"name": "viewer"})["key"]
    done = run(stack, grafana_username=None, grafana_password=None, grafana_token=token, timeout=60)
    assert not done.result.get("failed"), done.result["msg"]
    shown = {key: value for key, value in done.result.items() if key != "invocation"}
    assert token not in json.dumps(shown)


def test_secrets_are_masked_in_what_the_module_says(stack) -> None:
    assert stack.password not in run(stack, dashboards=["stack-health"]).output


def test_check_mode_connects_to_nothing(stack) -> None:
    result = run(stack, check=True, grafana_endpoint="http://127.0.0.1:1").result
    assert result["msg"].startswith("would run every panel of dashboard ai-ml-performance") and result["panels"] == []


def test_the_role_prints_a_table_and_then_fails_where_something_is_wrong(stack, tmp_path) -> None:
    account = stack.call("POST", "/api/serviceaccounts", {"name": "verify", "role": "Viewer"})
    token = stack.call("POST", f"/api/serviceaccounts/{account['id']}/tokens", {"name": "verify"})["key"]
    role = {"name": "private_ai.model_monitoring.verify", "tasks_from": "dashboards"}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}]))

    def play(**more) -> subprocess.CompletedProcess:
        variables = {"verify_grafana_endpoint": stack.url, "verify_grafana_token": token, "verify_dashboards_timeout": 60, **more}
        command = [Path(sys.executable).with_name("ansible-playbook"), "-vvv", tmp_path / "play.yml", "-e", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=OURS.parents[3], env=environment, capture_output=True, text=True, timeout=180, check=False)
        shown = done.stdout.replace(json.dumps(variables), "")
        assert token not in shown
        return done

    done = play()
    assert done.returncode == 0, done.stdout
    assert re.search(r'"Tempo trace explorer +9 +9 +0 +0 +0"', done.stdout), done.stdout
    assert "stack-health / Alerts: no alert fires, which is good." in done.stdout
    done = play(verify_dashboards_variables={"model": "full"}, verify_dashboards_timeout=0)
    assert done.returncode == 2 and "Not all panels show data." in done.stdout
    assert "AI/ML performance / Waiting now: no data: no series vllm_requests_waiting has" in done.stdout.partition("FAILED")[2]


# What goes wrong


def test_a_series_that_is_gone_is_named(stack, exposed) -> None:
    exposed.without = ("vllm_kv_cache_usage_ratio",)
    try:
        deadline = time.monotonic() + 120
        while not (found := problems(stack, dashboards=["ai-ml-performance"])):
            assert time.monotonic() < deadline
    finally:
        exposed.without = ()
    assert found == ["AI/ML performance / KV cache in use: no data: there is no series vllm_kv_cache_usage_ratio now"]
    assert problems(stack, timeout=60) == []


def test_what_comes_later_is_waited_for(stack, exposed) -> None:
    exposed.without = ("vllm_requests_waiting",)
    timer = threading.Timer(8, lambda: setattr(exposed, "without", ()))
    deadline = time.monotonic() + 120
    while not problems(stack, dashboards=["ai-ml-performance"]):
        assert time.monotonic() < deadline
    timer.start()
    done = run(stack, dashboards=["ai-ml-performance"], timeout=60)
    timer.join()
    assert done.result["problems"] == [] and done.seconds < 40


def test_a_value_and_a_label_that_nobody_has(stack) -> None:
    found = problems(stack, dashboards=["ai-ml-performance"], variables={"model": "full"})
    words = f'no series vllm_requests_waiting has model_name=~"full", its values are {", ".join(MODELS)}'
    assert f"AI/ML performance / Waiting now: no data: {words}" in found
    text = (OURS / "ai-ml-performance.json").read_text().replace('model_name=~\\"$model\\"', 'flavour=\\"full\\"')
    uid = stack.add_dashboard({**json.loads(text), "uid": "copy", "title": "Copy"})
    assert 'Copy / Waiting now: no data: no series vllm_requests_waiting has flavour="full", nothing sets this label' in problems(
        stack, dashboards=[uid]
    )


def test_a_tempo_that_is_away(stack) -> None:
    nobody = free_port()
    stack.add_source("tempo", "tempo", f"http://127.0.0.1:{nobody}", serviceMap={"datasourceUid": "prometheus"})
    try:
        found = problems(stack, dashboards=["tempo-trace-explorer"])
    finally:
        stack.add_source("tempo", "tempo", stack.tempo.url, serviceMap={"datasourceUid": "prometheus"})
    searches = {"Recent traces", "Slow traces", "Failed traces", "Tokens of requests", "RAG requests"}
    assert {problem.split(": ")[0] for problem in found} == {f"Tempo trace explorer / {title}" for title in searches}
    assert all(": error: 502" in problem for problem in found), found


def test_a_prometheus_that_is_away(stack) -> None:
    nobody = free_port()
    stack.add_source("prometheus", "prometheus", f"http://127.0.0.1:{nobody}")
    deadline = time.monotonic() + 60
    try:
        # Grafana keeps the old address for some seconds.
        while len(found := problems(stack, dashboards=["stack-health"])) < 18 or not all(": variable namespace: " in problem for problem in found):
            assert time.monotonic() < deadline, found
    finally:
        stack.add_source("prometheus", "prometheus", stack.prometheus.url, timeInterval="1s")
    assert all("Stack health / " in problem and ": error: variable namespace: data source prometheus" in problem for problem in found)


def simple(*targets: dict, **more) -> dict:
    """A dashboard of one panel."""
    panel = {"id": 1, "type": "timeseries", "title": "P", "targets": list(targets), **more}
    return {"uid": "simple", "title": "Simple", "schemaVersion": 36, "panels": [panel]}


PROMETHEUS, TEMPO = {"type": "prometheus", "uid": "prometheus"}, {"type": "tempo", "uid": "tempo"}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"refId": "A", "datasource": PROMETHEUS, "expr": "sum by ("}, "error: "),
        ({"refId": "A", "datasource": PROMETHEUS, "expr": "0 * up / 0"}, "no data: the query found only values that are not numbers (NaN)"),
        ({"refId": "A", "datasource": {"type": "prometheus", "uid": "gone"}, "expr": "up"}, "error: Grafana has no data source 'gone'"),
        ({"refId": "A", "datasource": TEMPO, "queryType": "traceql", "query": "{ nonsense"}, "error: 400 "),
        ({"refId": "A", "datasource": TEMPO, "queryType": "traceqlSearch", "filters": []}, "write it as TraceQL"),
    ],
)
def test_queries_that_cannot_work_end_the_wait(stack, target, words) -> None:
    stack.add_dashboard(simple(target))
    done = run(stack, dashboards=["simple"], timeout=20 if "NaN" not in words else 0)
    (problem,) = done.result["problems"]
    assert problem.startswith("Simple / P: ") and words in problem
    assert done.seconds < 20


def test_a_target_that_is_hidden_is_not_run(stack) -> None:
    stack.add_dashboard(
        simple({"refId": "A", "datasource": PROMETHEUS, "expr": "up"}, {"refId": "B", "datasource": PROMETHEUS, "expr": "gone", "hide": True})
    )
    assert problems(stack, dashboards=["simple"]) == []


def test_panels_may_be_declared_optional_by_the_user(stack) -> None:
    stack.add_dashboard(simple({"refId": "A", "datasource": PROMETHEUS, "expr": "gone"}))
    assert problems(stack, dashboards=["simple"], optional=[{"dashboard": "simple", "panel": "P", "reason": "it is gone"}]) == []
    assert problems(stack, dashboards=["simple"]) == ["Simple / P: no data: there is no series gone now"]


def test_the_rate_interval_is_grafanas(stack) -> None:
    stack.add_dashboard(simple({"refId": "A", "datasource": PROMETHEUS, "expr": "rate(otelcol_receiver_accepted_spans_total[$__rate_interval])"}))
    assert problems(stack, dashboards=["simple"], timeout=60, time_from="now-5m") == []


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dashboards": ["nowhere"]}, "Grafana has no dashboard with the UID 'nowhere': import it, or correct the UID"),
        ({"dashboards": [], "folder": "Nowhere"}, "Grafana has no folder 'Nowhere' (it has: 'Model monitoring')"),
        ({"grafana_password": "wr0ng-p4ss"}, "Grafana does not accept the credentials (401"),
        ({"grafana_username": None, "grafana_password": None, "grafana_token": "wr0ng-p4ss"}, "Grafana does not accept the credentials (401"),
        ({"grafana_username": None, "grafana_password": None}, "Grafana wants a log-in (401)"),
        ({"dashboards": []}, "dashboards: name at least one dashboard"),
        ({"timeout": -1}, "timeout: -1.0 is below 0"),
        ({"time_to": "tomorrow"}, "time_to: 'tomorrow' is not a point in time"),
    ],
)
def test_bad_input(stack, arguments, words) -> None:
    result = run(stack, **arguments).result
    assert result["failed"] and words in result["msg"]
    assert "wr0ng-p4ss" not in result["msg"]


def test_what_answers_is_no_grafana(stack) -> None:
    result = run(stack, grafana_endpoint=stack.prometheus.url).result
    assert "404" in result["msg"] or "not Grafana" in result["msg"]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        result = run(stack, grafana_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}").result
    assert "Grafana is not reachable at http://127.0.0.1" in result["msg"]
