# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Dashboards on a Grafana whose data sources know a few series, on a clock that only moves when the probe waits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard, _dashboard_probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import DataSource, Lookup, Outcome
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard_probe import Wish
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._grafana import GrafanaError

OURS = Path(__file__).parents[4] / "roles" / "grafana" / "files" / "dashboards"
SOURCES = [
    DataSource("prometheus", "prometheus", "Prometheus", True, {"timeInterval": "15s"}),
    DataSource("tempo", "tempo", "Tempo", settings={"serviceMap": {"datasourceUid": "prometheus"}}),
]


class FakeGrafana:
    """Series are matched by name and by whole label values (or alternatives of them), as far as these tests need.

    ``series``: name to label sets. ``traces``: how many a search finds. ``since``: seconds after which there is anything.
    """

    def __init__(self, boards: dict[str, dict], series: dict[str, list[dict]] | None = None, traces: int = 1, since: float = 0) -> None:
        self.boards, self.series, self.traces, self.since = boards, series or {}, traces, since
        self.now, self.queries, self.searches, self.opened = 0.0, [], [], []
        self.sources = SOURCES
        self.failing: dict[str, Outcome] = {}
        self.trouble: dict[str, Exception] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    def data_sources(self) -> list[DataSource]:
        if "settings" in self.trouble:
            raise self.trouble["settings"]
        return self.sources

    def dashboard(self, uid: str) -> dict:
        self.opened.append(uid)
        if uid in self.trouble:
            raise self.trouble[uid]
        return _dashboard.check(self.boards.get(uid), f"dashboard '{uid}'")

    def folder(self, name: str) -> list[str]:
        if name in self.trouble:
            raise self.trouble[name]
        return list(self.boards)

    def _matching(self, selector: _dashboard.Selector) -> list[dict]:
        if self.now < self.since:
            return []
        found = self.series.get(selector.series, [])
        for label, operator, value in selector.matchers:
            allowed = value[1:-1].replace("\\\\", "").strip("()").split("|")
            if operator in ("=", "=~"):
                found = [one for one in found if one.get(label, "") in allowed]
        return found

    def values(self, source: DataSource, lookup: Lookup, asked) -> list[str]:
        if source.uid in self.trouble:
            raise self.trouble[source.uid]
        selector = (_dashboard.selectors(lookup.expr) or [_dashboard.Selector(lookup.expr, ())])[0]
        return sorted({one[lookup.label] for one in self._matching(selector) if one.get(lookup.label)})

    def run(self, queries, asked) -> dict[str, Outcome]:
        self.queries += queries
        return {query["refId"]: self._answer(query["expr"]) for query in queries}

    def _answer(self, expr: str) -> Outcome:
        for word, outcome in self.failing.items():
            if word in expr:
                return outcome
        names = _dashboard.selectors(expr) or [_dashboard.Selector(name, ()) for name in re.findall(r"count\((.+)\)", expr)]
        if not all(self._matching(one) for one in names):
            return Outcome("no_data", "the query found nothing")
        return Outcome("data", series=1)

    def search(self, source, query, limit, per_trace, asked, spans) -> Outcome:
        self.searches.append(query)
        return Outcome("data", series=self.traces) if self.traces else Outcome("no_data", "the search found no trace")


def panel(title: str, *exprs: str, number: int = 1, description: str = "", **more) -> dict:
    targets = [{"refId": "ABC"[place], "expr": expr} for place, expr in enumerate(exprs)]
    return {
        "id": number,
        "title": title,
        "description": description,
        "targets": targets,
        "datasource": {"type": "prometheus", "uid": "${ds}"},
        **more,
    }


def board(*panels: dict, variables: tuple[dict, ...] = ()) -> dict:
    source = {"name": "ds", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "b",
        "title": "Board",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "panels": list(panels),
    }


MODEL = {
    "name": "model",
    "type": "query",
    "query": "label_values(up{}, model)",
    "datasource": {"type": "prometheus", "uid": "${ds}"},
    "multi": True,
    "includeAll": True,
    "current": {"text": "All", "value": "$__all"},
}
SERIES = {"up": [{"model": "a"}, {"model": "b"}], "down": [{"model": "a"}]}


def probe(grafana: FakeGrafana, timeout: float = 10, wish: Wish | None = None, uids=("b",), folder=None) -> dict:
    return _dashboard_probe.probe(grafana, uids, folder, wish or Wish(), timeout, grafana.clock, grafana.sleep, lambda: 1_700_000_000 + grafana.now)


def test_all_panels_show_data() -> None:
    grafana = FakeGrafana({"b": board(panel("P", 'up{model=~"$model"}', "down{}"), variables=(MODEL,))}, SERIES)
    found = probe(grafana)
    assert found["problems"] == []
    (summary,), (row,) = found["dashboards"], found["panels"]
    assert summary == {
        "uid": "b", "title": "Board", "panels": 1, "with_data": 1, "empty_optional": 0, "empty": 0, "errors": 0,
        "variables": {"ds": ["prometheus"], "model": ["a", "b"]},
    }  # fmt: skip
    assert (row["panel"], row["state"], row["series"], row["message"]) == ("P", "data", 2, None)
    first = grafana.queries[0]
    assert first["expr"] == 'up{model=~"(a|b)"}'
    assert first["datasource"] == {"type": "prometheus", "uid": "prometheus"}
    assert (first["intervalMs"], first["maxDataPoints"]) == (15000, 1280)
    assert grafana.now == 0, "nothing to wait for"


def test_data_that_comes_later_is_waited_for() -> None:
    grafana = FakeGrafana({"b": board(panel("P", 'up{model=~"$model"}'), variables=(MODEL,))}, SERIES, since=5)
    assert probe(grafana)["problems"] == []
    assert 5 <= grafana.now < 7


@pytest.mark.parametrize(
    ("expr", "wish", "cause"),
    [
        ('gone{model=~"$model"}', {}, "there is no series gone now"),
        ('up{model="full"}', {}, 'no series up has model="full", its values are a, b'),
        ('up{colour="red"}', {}, 'no series up has colour="red", nothing sets this label'),
        ('up{model=~"$model"} + gone{}', {}, "there is no series gone now"),
        ('down{model=~"$model"}', {"model": ["b"]}, 'no series down has model=~"b", its values are a'),
        ('up{model=~"$model"}', {"model": ["full"]}, 'no series up has model=~"full", its values are a, b'),
    ],
)
def test_the_cause_of_an_empty_panel_is_named(expr, wish, cause) -> None:
    grafana = FakeGrafana({"b": board(panel("P", expr), panel("Q", "up{}", number=2), variables=(MODEL,))}, SERIES)
    found = probe(grafana, wish=Wish(variables=wish))
    assert found["problems"] == [f"Board / P: no data: {cause}"]
    assert found["panels"][0]["message"] == cause
    assert grafana.now >= 10


def test_a_variable_without_values_is_the_cause() -> None:
    grafana = FakeGrafana({"b": board(panel("P", 'down{model=~"$model"}'), variables=(MODEL,))}, {"down": SERIES["down"]})
    (problem,) = probe(grafana)["problems"]
    assert problem == "Board / P: no data: variable model has no values, label_values(up{}, model) finds nothing: there is no series up now"


def test_panels_that_may_be_empty_are_not_waited_for() -> None:
    own = panel("Own", "gone{}", description="GPUs.\n\nMay be empty: there is no GPU.")
    named = panel("Named", "gone{}", number=2)
    grafana = FakeGrafana({"b": board(own, named, panel("P", "up{}", number=3))}, SERIES)
    found = probe(grafana, wish=Wish(optional={("b", "Named"): "not here"}))
    assert found["problems"] == [] and grafana.now == 0
    assert [(one["state"], one["optional"]) for one in found["panels"]] == [("no_data", "there is no GPU."), ("no_data", "not here"), ("data", None)]
    assert found["dashboards"][0]["empty_optional"] == 2 and found["dashboards"][0]["with_data"] == 1


@pytest.mark.parametrize(("condition", "empty"), [("up{}", True), ("other{}", False)])
def test_a_reason_counts_only_while_its_condition_holds(condition, empty) -> None:
    one = panel("P", "gone{}", description="May be empty: so.")
    one["targets"].append({"refId": "MAY_BE_EMPTY", "hide": True, "expr": condition})
    grafana = FakeGrafana({"b": board(one)}, SERIES)
    found = probe(grafana)
    assert found["problems"] == ([] if empty else ["Board / P: no data: there is no series gone now"])
    assert found["panels"][0]["optional"] == ("so." if empty else None)
    # What the user says goes before what the panel says.
    named = Wish(optional={("b", "P"): "mine"})
    assert probe(FakeGrafana({"b": board(one)}, SERIES), wish=named)["problems"] == []


def test_all_panels_of_a_dashboard_may_be_declared_optional() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "gone{}"), panel("Q", "up{}", number=2))}, SERIES)
    found = probe(grafana, wish=Wish(optional={("b", "*"): "no model serves"}))
    assert found["problems"] == [] and found["dashboards"][0]["empty_optional"] == 1 and grafana.now == 0


def test_an_error_of_a_panel_that_may_be_empty_is_a_problem() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "gone{}", description="May be empty: so."))})
    grafana.failing = {"gone": Outcome("error", "dial tcp: connection refused")}
    assert probe(grafana)["problems"] == ["Board / P: error: dial tcp: connection refused"]
    assert grafana.now >= 10, "it may come back"


def test_an_error_that_cannot_heal_is_not_waited_for() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"), panel("Q", "down{}", number=2))}, SERIES)
    grafana.failing = {"down": Outcome("error", "parse error", hopeless=True)}
    assert probe(grafana)["problems"] == ["Board / Q: error: parse error"]
    assert grafana.now == 0


def test_panels_that_show_data_are_not_run_again() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"), panel("Q", "gone{}", number=2))}, SERIES)
    probe(grafana)
    assert sum(query["expr"] == "up{}" for query in grafana.queries) == 1


@pytest.mark.parametrize(
    ("variable", "cause"),
    [
        ({"name": "v", "type": "query", "query": "x", "datasource": {"uid": "tempo"}}, "variable v: its query goes to a data source of type tempo"),
        ({"name": "v", "type": "query", "query": "x", "datasource": {"uid": "none"}}, "variable v: Grafana has no data source 'none'"),
        ({"name": "v", "type": "datasource", "query": "loki"}, "variable v: Grafana has no data source of type loki: add one"),
        ({"name": "v", "type": "future"}, "variable v: it is of type 'future', which is not known here"),
        (
            {"name": "v", "type": "query", "query": "x", "datasource": {"uid": "prometheus"}, "regex": "/(/"},
            "variable v: '/(/' is not a regular expression",
        ),
    ],
)
def test_a_variable_that_cannot_be_resolved_is_an_error_of_each_panel(variable, cause) -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"), panel("Q", "up{}", number=2), variables=(variable,))}, SERIES)
    problems = probe(grafana)["problems"]
    assert len(problems) == 2 and all(cause in problem for problem in problems)
    assert grafana.now == 0


def test_a_data_source_that_does_not_answer_for_a_variable() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"), variables=(MODEL,))}, SERIES)
    grafana.trouble = {"prometheus": GrafanaError("data source Prometheus answers 502 refused")}
    assert probe(grafana)["problems"] == ["Board / P: error: variable model: data source Prometheus answers 502 refused"]


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ({"name": "v", "type": "textbox", "query": "2", "current": {"value": "3"}}, ["3"]),
        ({"name": "v", "type": "textbox", "query": "2", "current": {}}, ["2"]),
        ({"name": "v", "type": "constant", "query": "2"}, ["2"]),
        ({"name": "v", "type": "custom", "query": "a,b", "current": {"value": "b"}}, ["b"]),
        ({"name": "v", "type": "interval", "query": "1m,5m", "current": {"value": "5m"}}, ["5m"]),
        ({"name": "v", "type": "interval", "query": "1m,5m", "auto": True, "auto_count": 60, "current": {"text": "auto"}}, ["1m"]),
        ({"name": "v", "type": "adhoc"}, []),
    ],
)
def test_kinds_of_variables(variable, values) -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"), variables=(variable,))}, SERIES)
    assert probe(grafana)["dashboards"][0]["variables"]["v"] == values


def tempo(**target) -> dict:
    return {"id": 7, "title": "T", "datasource": {"type": "tempo", "uid": "tempo"}, "targets": [{"refId": "A", **target}]}


def test_a_search_goes_to_tempo_and_metrics_to_the_query_api() -> None:
    grafana = FakeGrafana({"b": board(tempo(queryType="traceql", query='{ a =~ "${model:pipe}" }'), variables=(MODEL,))}, SERIES)
    assert probe(grafana)["problems"] == []
    assert grafana.searches == ['{ a =~ "a|b" }'] and not grafana.queries


def test_a_search_that_finds_nothing() -> None:
    grafana = FakeGrafana({"b": board(tempo(queryType="traceql", query="{ }"))}, traces=0)
    assert probe(grafana)["problems"] == ["Board / T: no data: the search found no trace"]


def test_a_service_map_asks_its_prometheus() -> None:
    grafana = FakeGrafana(
        {"b": board(tempo(queryType="serviceMap", serviceMapQuery="{}"))}, {"traces_service_graph_request_total": [{"client": "a"}]}
    )
    assert probe(grafana)["problems"] == []
    assert grafana.queries[0]["expr"] == "sum by (client, server) (rate(traces_service_graph_request_total{}[3600s]))"
    assert grafana.queries[0]["datasource"]["uid"] == "prometheus"
    grafana = FakeGrafana({"b": board(tempo(queryType="serviceMap"))})
    assert probe(grafana)["problems"] == ["Board / T: no data: there is no series traces_service_graph_request_total now"]
    grafana.sources = [SOURCES[0], DataSource("tempo", "tempo", "Tempo")]
    assert "names no Prometheus for its service map" in probe(grafana)["problems"][0]


def test_a_query_that_only_grafanas_page_can_put_together() -> None:
    grafana = FakeGrafana({"b": board(tempo(queryType="traceqlSearch", filters=[]))})
    assert "write it as TraceQL" in probe(grafana)["problems"][0] and grafana.now == 0


def test_dashboards_that_are_missing_do_not_hide_the_others() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}")), "c": {"title": "no panels"}}, SERIES)
    grafana.trouble = {"x": GrafanaError("Grafana has no dashboard with the UID 'x'")}
    found = probe(grafana, uids=("b", "x", "c"))
    assert [one["uid"] for one in found["dashboards"]] == ["b"]
    assert found["problems"] == [
        "Grafana has no dashboard with the UID 'x'",
        "dashboard 'c': its JSON is not a dashboard: give one with a list of panels",
    ]
    assert grafana.now >= 10, "the missing one may be on its way"
    assert grafana.opened.count("b") == 1 and grafana.opened.count("x") > 1


def test_a_folder_and_uids_together_name_each_dashboard_once() -> None:
    grafana = FakeGrafana({"b": board(panel("P", "up{}"))}, SERIES)
    assert len(probe(grafana, folder="Model monitoring")["dashboards"]) == 1


def test_grafana_that_does_not_come_up() -> None:
    grafana = FakeGrafana({})
    grafana.trouble = {"settings": GrafanaError("Grafana is not reachable at http://g: refused")}
    with pytest.raises(GrafanaError, match="not reachable"):
        probe(grafana)
    assert grafana.now >= 10
    grafana.now, grafana.trouble = 0.0, {"settings": GrafanaError("does not accept the credentials", hopeless=True)}
    with pytest.raises(GrafanaError, match="credentials"):
        probe(grafana)
    assert grafana.now == 0


def test_explanation() -> None:
    found = {"dashboards": [{"panels": 3, "with_data": 1, "empty_optional": 1}], "problems": ["a", "b"]}
    assert _dashboard_probe.explain(found) == "1 of 3 panels show no data or fail:\na\nb"
    assert _dashboard_probe.explain({"dashboards": [], "problems": ["a"]}) == "No dashboard could be opened:\na"


# The collection's own dashboards


def everything() -> dict[str, list[dict]]:
    """Every series that they ask for, with labels that their variables find."""
    series: dict[str, list[dict]] = {}
    models = ("mistral-24b", "mistral-24b-quantized")
    for path in OURS.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        for one in json.loads(text)["panels"]:
            for target in one.get("targets", []):
                for selector in _dashboard.selectors(target.get("expr", "")):
                    series[selector.series] = []
    for name in (*series, "lm_eval_score", "minio_bucket_usage_total_bytes", "traces_service_graph_request_total"):
        series[name] = [
            {
                "namespace": "n", "model": model, "model_name": model, "gen_ai_request_model": model, "service_name": "s", "task": "t",
                "metric": "acc", "bucket": "b", "quantile": quantile, "status": "live", "alertstate": "firing",
                "gen_ai_operation_name": "chat", "span_name": "(?i).*", "client": "c", "server": "s", "exported_pod": exported,
            }
            for model in models for quantile in ("0.5", "0.95", "0.99") for exported in ("", "p")
        ]  # fmt: skip
    return series


@pytest.fixture
def ours() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in OURS.glob("*.json")}


def test_our_dashboards_choose_the_right_models(ours) -> None:
    grafana = FakeGrafana(ours, everything())
    found = probe(grafana, uids=("model-quality",))
    assert found["dashboards"][0]["variables"] == {
        "prometheus": ["prometheus"], "namespace": ["n"], "full": ["mistral-24b"], "quantized": ["mistral-24b-quantized"],
        "task": ["t"], "metric": ["acc"],
    }  # fmt: skip


def test_our_dashboards_name_the_series_that_is_gone(ours) -> None:
    series = everything()
    del series["vllm_kv_cache_usage_ratio"]
    found = probe(FakeGrafana(ours, series), uids=("ai-ml-performance",))
    assert found["problems"] == ["AI/ML performance / KV cache in use: no data: there is no series vllm_kv_cache_usage_ratio now"]


# Parameters


def params(**more) -> dict:
    return {
        "grafana_endpoint": "http://grafana-service.demo.svc:3000", "grafana_username": None, "grafana_password": None, "grafana_token": None,
        "grafana_secret": None, "grafana_ca_cert": None, "dashboards": ["b"], "folder": None, "variables": {}, "time_from": None, "time_to": None,
        "optional": [], "timeout": 10.0, "via": "auto", **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dashboards": []}, "dashboards: name at least one"),
        ({"grafana_username": "admin"}, "grafana_password: missing"),
        ({"timeout": -1.0}, "timeout: -1.0 is below 0"),
        ({"timeout": float("nan")}, "timeout: nan is below 0"),
        ({"time_from": "yesterday"}, "time_from: 'yesterday' is not a point in time"),
        ({"grafana_endpoint": "grafana:3000"}, "grafana_endpoint:"),
        ({"grafana_ca_cert": "/nowhere"}, "CA file '/nowhere' cannot be read"),
    ],
)
def test_bad_parameters_are_told_before_anything_is_asked(more, words) -> None:
    with pytest.raises(ModelMonitoringError, match=re.escape(words)):
        _dashboard_probe.plan(params(**more))


def test_plan() -> None:
    text = _dashboard_probe.plan(params(folder="F"))
    assert text == "would run every panel of dashboard b, every dashboard in folder F through Grafana at http://grafana-service.demo.svc:3000"


def test_wish() -> None:
    wish = _dashboard_probe.wish_of(
        params(variables={"model": "a", "n": [1, 2]}, time_from="now-5m", optional=[{"dashboard": "b", "panel": "P", "reason": "so"}])
    )
    assert wish == Wish({"model": ["a"], "n": ["1", "2"]}, "now-5m", "", {("b", "P"): "so"})
