# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The collector's configuration as the role puts it together, for many choices of its variables."""

from __future__ import annotations

import itertools
import re
from collections import ChainMap

import pytest

from roles import Role

ROLE = Role("otel_collector")
#: Choices that change which components there are. Each is combined with each ...
CHOICES = (
    [{"otel_collector_queue_persistent": kept} for kept in (False, True)],
    [{"otel_collector_tail_sampling": sampled} for sampled in (False, True)],
    [
        {"otel_collector_span_metrics": spans, "otel_collector_service_graph": graph}
        for spans, graph in ((True, True), (True, False), (False, True), (False, False))
    ],
    [
        {"otel_collector_traces_exporters": traces, "otel_collector_metrics_exporters": metrics}
        for traces, metrics in (
            ([], []),
            (["otlp/archive"], ["prometheusremotewrite"]),
            (["otlp/archive"], []),
            ([], ["prometheusremotewrite", "otlp/archive"]),
        )
    ],
)
#: ... and these, which only add a component, take turns.
TURNS = (
    {"otel_collector_k8s_namespaces": ["a", "b"], "otel_collector_tempo_tenant": "", "otel_collector_redact": True},
    {"otel_collector_k8s_namespaces": [], "otel_collector_tempo_tenant": "dev", "otel_collector_redact": True},
    {"otel_collector_k8s_namespaces": ["a"], "otel_collector_tempo_tenant": "dev", "otel_collector_redact": False},
)
EXPORTERS = {
    "otlp/archive": {"endpoint": "archive.example.com:4317", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
    "prometheusremotewrite": {"endpoint": "https://metrics.example.com/api/v1/write"},
}


@pytest.fixture(scope="module")
def configurations():
    """All combinations: what was chosen, and the configuration."""
    chosen = [dict(ChainMap(*parts)) for parts in zip(itertools.cycle(TURNS), *zip(*itertools.product(*CHOICES), strict=True), strict=False)]
    return [(choice, ROLE.value("__otel_collector_config", otel_collector_exporters=EXPORTERS, **choice)) for choice in chosen]


def pipelines(config, *kinds):
    return {name: pipeline for name, pipeline in config["service"]["pipelines"].items() if name.split("/")[0] in (kinds or ("traces", "metrics"))}


def test_every_name_exists_and_every_component_is_used(configurations):
    for choice, config in configurations:
        used = {kind: set() for kind in ("receivers", "processors", "exporters")}
        for pipeline in pipelines(config).values():
            for kind, names in used.items():
                assert pipeline[kind], choice
                names.update(pipeline[kind])
        connectors = set(config["connectors"])
        assert used["receivers"] - connectors == set(config["receivers"]), choice
        assert used["receivers"] & connectors == used["exporters"] & connectors == connectors, choice
        assert used["processors"] == set(config["processors"]) - ({"batch"} - used["processors"]), choice
        assert used["exporters"] - connectors <= set(config["exporters"]), choice
        wanted = {"otlp/tempo", "prometheus", *choice["otel_collector_traces_exporters"], *choice["otel_collector_metrics_exporters"]}
        assert used["exporters"] - connectors == wanted, choice
        for exporter in config["exporters"].values():
            authenticator = exporter.get("auth", {}).get("authenticator")
            storage = exporter.get("sending_queue", {}).get("storage")
            assert {authenticator, storage} - {None} <= set(config["service"]["extensions"]) == set(config["extensions"]), choice


def test_memory_limiter_is_first_and_batch_is_last(configurations):
    for choice, config in configurations:
        for name, pipeline in pipelines(config).items():
            first, *others = pipeline["processors"]
            assert first == "memory_limiter", (choice, name)
            assert "memory_limiter" not in others
            # With a queue on a volume, the exporters to it batch behind the queue: a batch before it would be lost with the pod.
            behind = choice["otel_collector_queue_persistent"] and "otlp/tempo" in downstream(config, name)
            if behind and name in ("traces", "traces/sampled"):
                assert "batch" not in others, (choice, name)
                assert config["exporters"]["otlp/tempo"]["sending_queue"]["batch"]["max_size"] < 4 * 1024 * 1024
            else:
                assert others[-1] == "batch", (choice, name)
                assert others.count("batch") == 1


def downstream(config, name):
    """Exporters that what is in a pipeline reaches as it is, through forward connectors too."""
    reached = set()
    for exporter in config["service"]["pipelines"][name]["exporters"]:
        if exporter.startswith("forward/"):
            signal = name.partition("/")[0]
            for other, pipeline in pipelines(config, signal).items():
                if exporter in pipeline["receivers"]:
                    reached |= downstream(config, other)
        else:
            reached.add(exporter)
    return reached


def test_nothing_passes_unredacted(configurations):
    """What comes in over OTLP meets the redaction before any exporter or connector, unless that is switched off."""
    for choice, config in configurations:
        for name, pipeline in pipelines(config).items():
            if "otlp" in pipeline["receivers"]:
                assert ("transform/redact" in pipeline["processors"]) is choice["otel_collector_redact"], (choice, name)


def test_pods_are_looked_up_before_anything_is_batched(configurations):
    """The address that sent it is known to the first processors only."""
    for choice, config in configurations:
        expected = [f"k8sattributes/{namespace}" for namespace in choice["otel_collector_k8s_namespaces"]] or ["k8sattributes"]
        for name, pipeline in pipelines(config).items():
            if "otlp" in pipeline["receivers"]:
                assert pipeline["processors"][1 : 1 + len(expected)] == expected, (choice, name)
        for name in expected:
            namespace = name.partition("/")[2]
            assert config["processors"][name].get("filter") == ({"namespace": namespace} if namespace else None)


def test_metrics_of_spans_see_all_spans(configurations):
    for choice, config in configurations:
        for connector in {"spanmetrics", "servicegraph"} & set(config["connectors"]):
            (source,) = (pipeline for pipeline in pipelines(config, "traces").values() if connector in pipeline["exporters"])
            assert "tail_sampling" not in source["processors"]
            assert source["receivers"] == ["otlp"]
            (sink,) = (pipeline for pipeline in pipelines(config, "metrics").values() if connector in pipeline["receivers"])
            assert "prometheus" in sink["exporters"]
        kept = downstream(config, "traces") - set(config["connectors"])
        assert kept == {"otlp/tempo", *choice["otel_collector_traces_exporters"]}
        if choice["otel_collector_tail_sampling"]:
            (before,) = (pipeline for pipeline in pipelines(config, "traces").values() if "otlp/tempo" in pipeline["exporters"])
            assert "tail_sampling" in before["processors"]


def test_a_queue_on_a_volume_gives_up_nothing(configurations):
    for choice, config in configurations:
        for name in ("otlp/tempo", "otlp/archive"):
            exporter = config["exporters"][name]
            kept = choice["otel_collector_queue_persistent"]
            assert exporter["sending_queue"].get("storage") == ("file_storage" if kept else None)
            assert exporter["retry_on_failure"] == {"enabled": True, "max_elapsed_time": "0s" if kept else "300s"}
            assert exporter["sending_queue"]["queue_size"] == (500000 if kept else 250000)


def test_no_exporter_writes_to_the_log(configurations):
    for _, config in configurations:
        assert not [name for name in config["exporters"] if name.split("/")[0] in ("debug", "logging")]


def test_a_back_end_may_have_a_queue_of_its_own():
    exporters = {"otlp/archive": {"endpoint": "archive.example.com:4317", "sending_queue": {"enabled": False}}}
    config = ROLE.value("__otel_collector_config", otel_collector_exporters=exporters, otel_collector_traces_exporters=["otlp/archive"])
    assert config["exporters"]["otlp/archive"]["sending_queue"] == {"enabled": False}
    assert config["exporters"]["otlp/archive"]["retry_on_failure"]["max_elapsed_time"] == "300s"


def test_dimensions_and_labels():
    config = ROLE.value(
        "__otel_collector_config",
        otel_collector_span_metrics_dimensions=["session.id"],
        otel_collector_span_metrics_limit=7,
        otel_collector_metric_labels=["a.b"],
    )
    connector = config["connectors"]["spanmetrics"]
    assert [row["name"] for row in connector["dimensions"]] == ["gen_ai.request.model", "gen_ai.operation.name", "k8s.namespace.name", "session.id"]
    assert connector["aggregation_cardinality_limit"] == 7
    assert connector["exclude_dimensions"] == ["collector.instance.id"]
    assert config["processors"]["transform/labels"]["metric_statements"] == ['set(datapoint.attributes["a.b"], resource.attributes["a.b"])']


def test_the_service_graph_follows_the_image():
    assert "servicegraph" not in ROLE.value("__otel_collector_config")["connectors"]
    contrib = "ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib:0.158.0"
    assert "servicegraph" in ROLE.value("__otel_collector_config", otel_collector_image=contrib)["connectors"]


# What is redacted

CONTENT = [
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.prompt.0.content",
    "gen_ai.completion.0.tool_calls.0.arguments",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.definitions",
    "gen_ai.tool_definitions.raw",
    "gen_ai.retrieval.documents",
    "gen_ai.retrieval.query.text",
    "gen_ai.user.message",
    "gen_ai.content.prompt",
    "gen_ai.evaluation.explanation",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "traceloop.prompt.template",
    "llm.prompts",
    "llm.prompts.0.content",
    "llm.completions.0.content",
    "llm.request.functions.0.name",
    "llm.input_messages.0.message.content",
    "llm.output_messages.0.message.content",
    "llm.prompt_template.variables",
    "llm.invocation_parameters",
    "llm.tools.0.tool.json_schema",
    "input.value",
    "output.value",
    "retrieval.documents.0.document.content",
    "embedding.embeddings.0.embedding.text",
    "reranker.query",
    "reranker.output_documents.0.document.content",
    "document.content",
    "message.content",
    "tool.parameters",
    "db.query.result.0.document",
    "__args__",
    "input",
    "output",
    "ogx.safety.request.messages",
    "ogx.safety.response.violation.user_message",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
    "langfuse.observation.input",
    "langfuse.trace.output",
    "ai.prompt",
    "ai.prompt.messages",
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.toolCall.args",
    "ai.toolCall.result",
    "pydantic_ai.all_messages",
    "all_messages_events",
    "final_result",
    "tool_arguments",
    "request_data",
    "prompt",
    "completion",
    "messages",
]
KEPT = [
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.system",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.prompt_tokens",
    "gen_ai.usage.completion_tokens",
    "gen_ai.input.type",
    "gen_ai.output.type",
    "gen_ai.request.max_tokens",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    "gen_ai.latency.time_to_first_token",
    "gen_ai.tool.name",
    "gen_ai.tool.call.id",
    "gen_ai.token.type",
    "gen_ai.data_source.id",
    "gen_ai.conversation.id",
    "llm.model_name",
    "llm.token_count.prompt",
    "llm.token_count.completion",
    "llm.usage.total_tokens",
    "llm.request.type",
    "llm.is_streaming",
    "llm.response.model",
    "traceloop.span.kind",
    "traceloop.entity.name",
    "input.mime_type",
    "output.mime_type",
    "input.tokens",
    "openinference.span.kind",
    "http.request.method",
    "http.request.body.size",
    "url.path",
    "server.address",
    "db.query.text",
    "db.system.name",
    "document.id",
    "tool.name",
    "ai.model.id",
    "ai.usage.promptTokens",
    "ai.response.finishReason",
    "session.id",
    "private_ai.probe.id",
    "prompt_tokens",
    "service.name",
]


def matching(names, *further):
    patterns = ROLE.value("__otel_collector_content_names", otel_collector_redact_attributes=list(further))
    return [name for name in names if any(re.search(pattern, name) for pattern in patterns)]


def test_content_is_redacted_and_nothing_else():
    assert matching(CONTENT) == CONTENT
    assert matching(KEPT) == []
    assert matching(["customer.name", "name"], "^customer[.]") == ["customer.name"]


def test_statements_of_a_group_are_of_one_context():
    """The collector runs a group once for each item of its innermost context: one on spans among those on events would miss spans without."""
    groups = ROLE.value("__otel_collector_redact", otel_collector_redact_attributes=["a"])["trace_statements"]
    for group in groups:
        assert {re.search(r"\((\w+)[.]", statement).group(1) for statement in group["statements"]} == {group["context"]}
    assert [group["context"] for group in groups] == ["span", "spanevent"]


def test_events_that_are_messages():
    pattern = ROLE.value("__otel_collector_content_events")
    messages = [
        "gen_ai.user.message",
        "gen_ai.system.message",
        "gen_ai.tool.message",
        "gen_ai.choice",
        "gen_ai.content.prompt",
        "llm.content.completion.chunk",
    ]
    others = ["exception", "gen_ai.evaluation.result", "gen_ai.client.inference.operation.details", "first token"]
    assert [name for name in messages + others if re.search(pattern, name)] == messages


# Objects


def kinds(**inventory):
    return [(item["kind"], item["metadata"].get("namespace")) for item in ROLE.manifests(**inventory)]


def test_the_collector_may_read_pods_where_models_are_and_nothing_else():
    for inventory in ({}, {"otel_collector_k8s_namespaces": ["models", "agents"]}, {"otel_collector_k8s_namespaces": []}):
        made = ROLE.manifests(**inventory)
        roles = [item for item in made if item["kind"] in ("Role", "ClusterRole")]
        assert {str(item["rules"]) for item in roles} == {str([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}])}
        bindings = [item for item in made if item["kind"].endswith("Binding")]
        assert [(item["metadata"]["name"], item["metadata"].get("namespace")) for item in bindings] == [
            (item["metadata"]["name"], item["metadata"].get("namespace")) for item in roles
        ]
        (account,) = (item["metadata"] for item in made if item["kind"] == "ServiceAccount")
        for binding, role in zip(bindings, roles, strict=True):
            assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]}
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]
        assert made[-1]["spec"]["serviceAccount"] == account["name"]
    assert ("Role", "private-ai-demo") in kinds()
    assert [kind for kind, _ in kinds(otel_collector_k8s_namespaces=[])].count("ClusterRole") == 1
    assert kinds(otel_collector_k8s_attributes=False) == [
        ("Namespace", None),
        ("ServiceAccount", "private-ai-demo"),
        ("OpenTelemetryCollector", "private-ai-demo"),
    ]


def test_a_secret_is_named_and_not_copied():
    (collector,) = (item for item in ROLE.manifests(otel_collector_secret="archive") if item["kind"] == "OpenTelemetryCollector")
    assert collector["spec"]["envFrom"] == [{"secretRef": {"name": "archive"}}]
    assert "envFrom" not in ROLE.manifests()[-1]["spec"]


def test_ports_have_stable_names():
    assert ROLE.manifests()[-1]["spec"]["ports"] == [{"name": "prometheus", "port": 8889}]


# Bad input

ARCHIVE = {"otlp/archive": {"endpoint": "archive.example.com:4317"}}
TO_ARCHIVE = {"otel_collector_traces_exporters": ["otlp/archive"]}
BAD = {
    "no memory limit": ({"otel_collector_resources": {"limits": {"cpu": 1}}}, "otel_collector_resources has no limits.memory. Give one"),
    "no pod": ({"otel_collector_replicas": 0}, "otel_collector_replicas: 0 pods"),
    "no queue": ({"otel_collector_queue_size": 0}, "otel_collector_queue_size: 0 spans"),
    "expiration": ({"otel_collector_metric_expiration": "5 minutes"}, "otel_collector_metric_expiration: '5 minutes' is no duration. Give"),
    "wait": ({"otel_collector_tail_sampling_wait": "30"}, "otel_collector_tail_sampling_wait: '30' is no duration. Give"),
    "limit": ({"otel_collector_span_metrics_limit": 0}, "otel_collector_span_metrics_limit: 0 is no limit"),
    "dimension twice": ({"otel_collector_span_metrics_dimensions": ["a", "span.name"]}, "span.name is there without being asked for"),
    "sampling in two pods": ({"otel_collector_tail_sampling": True, "otel_collector_replicas": 2}, "Set otel_collector_replicas to 1"),
    "sampling without policy": ({"otel_collector_tail_sampling": True, "otel_collector_tail_sampling_policies": []}, "no trace would be kept"),
    "policy without type": (
        {"otel_collector_tail_sampling_policies": [{"name": "a"}]},
        "otel_collector_tail_sampling_policies: each needs a name and a type",
    ),
    "our exporter": (
        {"otel_collector_exporters": {"otlp/tempo": {"endpoint": "a:1"}}, "otel_collector_traces_exporters": ["otlp/tempo"]},
        "otlp/tempo is the role's own",
    ),
    "debug exporter": ({"otel_collector_exporters": {"debug/x": {}}, "otel_collector_traces_exporters": ["debug/x"]}, "debug/x writes what passes"),
    "no such exporter": ({"otel_collector_exporters": ARCHIVE, "otel_collector_traces_exporters": ["otlp/archive", "otlp/b"]}, "has no otlp/b,"),
    "idle exporter": ({"otel_collector_exporters": ARCHIVE}, "nothing is sent to otlp/archive"),
    "OTLP to a URL": (
        {"otel_collector_exporters": {"otlp/archive": {"endpoint": "https://a.example.com/v1/traces"}}, **TO_ARCHIVE},
        "endpoint of otlp/archive",
    ),
    "OTLP without port": ({"otel_collector_exporters": {"otlp/archive": {"endpoint": "a.example.com"}}, **TO_ARCHIVE}, "endpoint of otlp/archive"),
    "remote write to a host": (
        {
            "otel_collector_exporters": {"prometheusremotewrite": {"endpoint": "a:9090"}},
            "otel_collector_metrics_exporters": ["prometheusremotewrite"],
        },
        "endpoint of prometheusremotewrite",
    ),
    "token in the open": (
        {"otel_collector_exporters": {"otlp/archive": {**ARCHIVE["otlp/archive"], "headers": {"X-API-Key": "abc"}}}, **TO_ARCHIVE},
        "X-API-Key in the clear",
    ),
    "password in the open": (
        {
            "otel_collector_exporters": ARCHIVE,
            **TO_ARCHIVE,
            "otel_collector_extensions": {"basicauth": {"client_auth": {"username": "a", "password": "b"}}},
        },
        "password in the clear",
    ),
    "no Secret": (
        {
            "otel_collector_exporters": {"otlp/archive": {**ARCHIVE["otlp/archive"], "headers": {"Authorization": "Bearer ${env:TOKEN}"}}},
            **TO_ARCHIVE,
        },
        "otel_collector_secret is empty, but otel_collector_exporters or otel_collector_extensions want TOKEN",
    ),
}


@pytest.mark.parametrize(("inventory", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_one_line(inventory, message):
    (said,) = ROLE.checks(**inventory)
    assert message in said
    assert "\n" not in said


def test_good_input_is_not_refused():
    assert ROLE.checks() == []
    exporters = {
        **ARCHIVE,
        "otlphttp/b": {"endpoint": "https://b.example.com", "headers": {"Authorization": "Bearer ${env:B_TOKEN}"}},
        "otlp/c": {"endpoint": "https://c.example.com:4317", "tls": {"ca_file": "/a"}},
        "otlp/d": {"endpoint": "${env:D_ENDPOINT}"},
    }
    inventory = {
        "otel_collector_exporters": exporters,
        "otel_collector_traces_exporters": list(exporters),
        "otel_collector_extensions": {"oauth2client": {"client_secret_file": "/a", "token_url": "https://a.example.com"}},
        "otel_collector_secret": "b",
        "otel_collector_tail_sampling": True,
        "otel_collector_metric_expiration": "1m30s",
    }
    assert ROLE.checks(**inventory) == []
    assert ROLE.value("__otel_collector_asked", **inventory) == ["B_TOKEN", "D_ENDPOINT"]
