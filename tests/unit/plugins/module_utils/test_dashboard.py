# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Variables, times, intervals and answers, as Grafana's own front end takes them."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard as d

NOW = datetime(2024, 5, 15, 13, 45, 30, tzinfo=timezone.utc).timestamp()


def at(*numbers: int) -> int:
    return int(datetime(*numbers, tzinfo=timezone.utc).timestamp() * 1000)


# Time


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("now", False, at(2024, 5, 15, 13, 45, 30)),
        ("now-1h", False, at(2024, 5, 15, 12, 45, 30)),
        ("now-1d-2h", False, at(2024, 5, 14, 11, 45, 30)),
        ("now+5m", False, at(2024, 5, 15, 13, 50, 30)),
        ("now/d", False, at(2024, 5, 15)),
        ("now/d", True, at(2024, 5, 16) - 1),
        ("now-1d/d", False, at(2024, 5, 14)),
        ("now/w", False, at(2024, 5, 13)),
        ("now/M", True, at(2024, 6, 1) - 1),
        ("now/y", True, at(2025, 1, 1) - 1),
        ("now/h", False, at(2024, 5, 15, 13)),
        ("2024-05-01T12:00:00Z", False, at(2024, 5, 1, 12)),
        ("2024-05-01T14:00:00+02:00", False, at(2024, 5, 1, 12)),
        ("1715780730000", False, 1715780730000),
    ],
)
def test_moments(text, end, expected) -> None:
    assert d.moment(text, NOW, end) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "now-", "now-1", "now-1q", "now/q", "nowish", "now 1h"])
def test_what_is_no_moment(text) -> None:
    with pytest.raises(d.DashboardError, match="not a point in time"):
        d.moment(text, NOW)


@pytest.mark.parametrize(("text", "expected"), [("30s", 30), ("1h30m", 5400), (">=1m", 60), ("250ms", 0.25), ("2d", 172800), ("1.5h", 5400)])
def test_durations(text, expected) -> None:
    assert d.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "m", "1h 30", "-1h", "1x"])
def test_what_is_no_duration(text) -> None:
    with pytest.raises(d.DashboardError, match="not a duration"):
        d.seconds(text)


@pytest.mark.parametrize(
    ("hours", "points", "least", "expected"),
    [
        (1, 640, "", 5000),
        (1, 640, "15s", 15000),
        (6, 1280, "", 15000),
        (1, 480, "", 10000),
        (24, 640, "", 120000),
        (168, 5000, "", 120000),
        (1, 1280, ">10s", 10000),
        (0, 100, "", 1),
        (24 * 3650, 100, "", 2592000000),
    ],
)
def test_interval_is_rounded_as_grafana_does(hours, points, least, expected) -> None:
    assert d.interval(d.Range(0, hours * 3600000), points, least) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"), [(500, "500ms"), (15000, "15s"), (120000, "2m"), (5400000, "90m"), (7200000, "2h"), (86400000, "1d")]
)
def test_duration_text(milliseconds, expected) -> None:
    assert d.duration_text(milliseconds) == expected


def panel(**more) -> d.Panel:
    return d.Panel(1, "p", "timeseries", ({"refId": "A"},), **more)


@pytest.mark.parametrize(
    ("one", "start", "end"),
    [
        (panel(), at(2024, 5, 15, 12, 45, 30), at(2024, 5, 15, 13, 45, 30)),
        (panel(time_from="7d"), at(2024, 5, 8, 13, 45, 30), at(2024, 5, 15, 13, 45, 30)),
        (panel(time_from="now-7d"), at(2024, 5, 8, 13, 45, 30), at(2024, 5, 15, 13, 45, 30)),
        (panel(time_shift="1d"), at(2024, 5, 14, 12, 45, 30), at(2024, 5, 14, 13, 45, 30)),
    ],
)
def test_a_panel_may_have_a_time_range_of_its_own(one, start, end) -> None:
    assert d.range_of(one, "now-1h", "now", NOW) == d.Range(start, end)


# Panels


def test_panels_are_found_in_rows_and_take_the_panels_data_source() -> None:
    board = {
        "panels": [
            {"id": 1, "type": "row", "title": "open", "panels": []},
            {
                "id": 2,
                "type": "stat",
                "title": "A",
                "gridPos": {"w": 12},
                "datasource": {"uid": "p"},
                "description": "What.\n\nMay be empty: no GPU,\nno figures.",
                "targets": [{"refId": "A"}, {"refId": "B", "hide": True}, {"refId": "C", "datasource": {"uid": "q"}}],
            },
            {"id": 3, "type": "text", "title": "words"},
            {"id": 4, "type": "row", "collapsed": True, "panels": [{"id": 5, "type": "table", "targets": [{"refId": "A"}], "maxDataPoints": 100}]},
        ]
    }
    first, second = d.panels_of(board)
    assert [(one["refId"], one["datasource"]["uid"]) for one in first.targets] == [("A", "p"), ("C", "q")]
    assert first.optional == "no GPU, no figures." and first.points == 640
    assert (second.id, second.title, second.optional, second.points) == (5, "panel 5", None, 100)


@pytest.mark.parametrize(
    ("model", "words"), [({"a": 1}, "not a dashboard"), ([], "not a dashboard"), (None, "not a dashboard"), ({"elements": {}}, "new schema")]
)
def test_json_that_is_no_dashboard(model, words) -> None:
    with pytest.raises(d.DashboardError, match=words):
        d.check(model, "dashboard 'x'")


# Variables


def query_variable(**more) -> dict:
    return {"name": "v", "type": "query", "query": "label_values(up, job)", **more}


def options(*values: str) -> list[d.Option]:
    return [d.Option(value, value) for value in values]


ALL = {"text": "All", "value": "$__all"}


@pytest.mark.parametrize(
    ("variable", "wanted", "values", "many"),
    [
        # one of several: what was saved, else the first
        (query_variable(), None, ("a",), False),
        (query_variable(current={"text": "b", "value": "b"}), None, ("b",), False),
        (query_variable(current={"text": "gone", "value": "gone"}), None, ("a",), False),
        (query_variable(current={}), None, ("a",), False),
        # several
        (query_variable(multi=True, current={"text": ["b", "c"], "value": ["b", "c"]}), None, ("b", "c"), True),
        (query_variable(multi=True, current={"text": ["b"], "value": ["b", "gone"]}), None, ("b",), True),
        (query_variable(multi=True, current={"value": ["gone"]}), None, ("a",), True),
        # all of them
        (query_variable(multi=True, includeAll=True, current=ALL), None, ("a", "b", "c"), True),
        (query_variable(multi=True, includeAll=True, current={"value": ["$__all"]}), None, ("a", "b", "c"), True),
        (query_variable(includeAll=True, current={}), None, ("a", "b", "c"), True),
        (query_variable(multi=True, includeAll=True, current={"value": ["b"]}), None, ("b",), True),
        # as the user of the module wishes, offered or not
        (query_variable(multi=True, includeAll=True, current=ALL), ["x"], ("x",), True),
        (query_variable(), ["x"], ("x",), False),
        (query_variable(multi=True, includeAll=True, current={"value": ["b"]}), ["$__all"], ("a", "b", "c"), True),
    ],
)
def test_choice_on_first_opening(variable, wanted, values, many) -> None:
    chosen = d.choose(variable, options("a", "b", "c"), wanted)
    assert (chosen.values, chosen.many) == (values, many)


@pytest.mark.parametrize(
    ("variable", "empty"),
    [(query_variable(), True), (query_variable(includeAll=True), True), (query_variable(includeAll=True, allValue=".*"), False)],
)
def test_a_variable_without_values(variable, empty) -> None:
    chosen = d.choose(variable, [])
    assert chosen.empty is empty


def test_data_sources_are_chosen_by_uid_and_name() -> None:
    sources = [d.DataSource("u2", "prometheus", "B"), d.DataSource("u1", "prometheus", "a"), d.DataSource("t", "tempo", "T")]
    variable = {"name": "p", "type": "datasource", "query": "prometheus"}
    assert d.source_options(variable, sources) == [d.Option("a", "u1"), d.Option("B", "u2")]
    assert d.source_options({**variable, "regex": "/^B/"}, sources) == [d.Option("B", "u2")]
    assert d.choose({**variable, "current": {"text": "other", "value": "u2"}}, d.source_options(variable, sources)).values == ("u2",)
    assert d.choose({**variable, "current": {"text": "B", "value": "old"}}, d.source_options(variable, sources)).values == ("u2",)
    assert d.choose({**variable, "current": {"text": "gone", "value": "gone"}}, d.source_options(variable, sources)).values == ("u1",)


@pytest.mark.parametrize(
    ("regex", "sort", "values", "expected"),
    [
        ("", 0, ["b", "a", "b"], ["b", "a"]),
        ("", 1, ["b", "a", "C"], ["C", "a", "b"]),
        ("", 2, ["b", "a"], ["b", "a"]),
        ("", 5, ["b", "C", "a"], ["a", "b", "C"]),
        ("", 3, ["p10", "p9"], ["p9", "p10"]),
        ("", 7, ["p10", "p9", "a"], ["a", "p9", "p10"]),
        ("/^(?!.*quant).*$/i", 1, ["m-Quantized", "m"], ["m"]),
        ("/^.*(quant|fp8).*$/i", 1, ["m-Quantized", "m"], ["Quant"]),  # a group is the value
        ("/pod-(\\d+)/", 0, ["pod-1", "x", "pod-2"], ["1", "2"]),
        ("/(?<text>a.)-(?<value>.+)/", 0, ["ab-1"], ["1"]),
        ("a.*", 0, ["abc", "xabc"], ["abc"]),  # without slashes it must match the whole
    ],
)
def test_options_of_a_query(regex, sort, values, expected) -> None:
    assert [one.value for one in d.query_options(values, regex, sort)] == expected


def test_a_broken_regular_expression_is_told() -> None:
    with pytest.raises(d.DashboardError, match="not a regular expression"):
        d.query_options(["a"], "/(/", 0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1s,200ms", [("1s", "1s"), ("200ms", "200ms")]),
        ("one : 1, two : 2", [("one", "1"), ("two", "2")]),
        ("a\\,b,c", [("a,b", "a,b"), ("c", "c")]),
        ("http://x:1", [("http://x:1", "http://x:1")]),
    ],
)
def test_listed_options(query, expected) -> None:
    assert [(one.text, one.value) for one in d.listed_options({"query": query})] == expected


def test_variables_come_after_those_they_refer_to() -> None:
    chain = [
        {"name": "model", "query": 'label_values(x{n=~"$namespace"}, m)', "datasource": {"uid": "${p}"}},
        {"name": "namespace", "query": "$p"},
        {"name": "p"},
    ]
    assert [one["name"] for one in d.in_order(chain)] == ["p", "namespace", "model"]
    with pytest.raises(d.DashboardError, match="a, b refer to each other in a circle"):
        d.in_order([{"name": "a", "query": "$b"}, {"name": "b", "query": "$a"}, {"name": "c"}])


KNOWN = {
    "one": d.Variable("one", ("it's",), ("it's",)),
    "all": d.Variable("all", ("a.b", "c"), ("All",), many=True),
    "single": d.Variable("single", ("a.b",), ("a.b",), many=True),
    "none": d.Variable("none", (), (), many=True),
    "any": d.Variable("any", ("a", "b"), ("All",), many=True, everything=".*$one"),
}


@pytest.mark.parametrize(
    ("text", "write", "expected"),
    [
        ('x{a=~"$all"}', d.promql, 'x{a=~"(a\\\\.b|c)"}'),
        ('x{a=~"$single"}', d.promql, 'x{a=~"a\\\\.b"}'),
        ('x{a=~"$none"}', d.promql, 'x{a=~"()"}'),
        ('x{a="$one"}', d.promql, 'x{a="it\\\\\'s"}'),
        ('x{a=~"$any"}', d.promql, 'x{a=~".*it\\\\\'s"}'),
        ('{ a =~ "${all:pipe}" }', d.piped, '{ a =~ "a.b|c" }'),
        ('{ a =~ "$all" }', d.piped, '{ a =~ "a.b|c" }'),
        ("$all", d.glob, "{a.b,c}"),
        ("${all}", d.glob, "{a.b,c}"),
        ("[[all]]", d.glob, "{a.b,c}"),
        ("[[all:csv]]", d.glob, "a.b,c"),
        ("${all:regex}", d.promql, "(a\\.b|c)"),
        ("${all:json}", d.promql, '["a.b", "c"]'),
        ("${all:doublequote}", d.promql, '"a.b","c"'),
        ("${all:singlequote}", d.promql, "'a.b','c'"),
        ("${all:text}", d.promql, "All"),
        ("${single:raw}", d.promql, "a.b"),
        ("${all:queryparam}", d.promql, "var-all=a.b&var-all=c"),
        ("${single:percentencode}", d.promql, "a.b"),
        ("${all:nosuchformat}", d.promql, "{a.b,c}"),
        # what is no variable stays
        ('label_replace(x, "a", "$1", "b", "(.*)")', d.promql, 'label_replace(x, "a", "$1", "b", "(.*)")'),
        ("rate(x[$__rate_interval])", d.promql, "rate(x[$__rate_interval])"),
        ("$allx ${unknown:csv}", d.promql, "$allx ${unknown:csv}"),
    ],
)
def test_interpolation(text, write, expected) -> None:
    assert d.interpolate(text, KNOWN, write) == expected


def test_structures_are_interpolated_text_by_text() -> None:
    assert d.filled({"a": "$single", "b": ["$one", 1, None], "c": True}, KNOWN) == {"a": "a.b", "b": ["it's", 1, None], "c": True}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("label_values(job)", d.Lookup("label_values", "job")),
        ("label_values(up, job)", d.Lookup("label_values", "job", "up")),
        ('label_values(up{a=~"$all", b="x"}, job)', d.Lookup("label_values", "job", 'up{a=~"(a\\\\.b|c)", b="x"}')),
        ({"qryType": 1, "query": "label_values(up,job)", "refId": "x"}, d.Lookup("label_values", "job", "up")),
        ("label_names()", d.Lookup("label_names")),
        ("label_names(up)", d.Lookup("label_names", expr="up")),
        ("metrics(vllm.*)", d.Lookup("metrics", expr="vllm.*")),
        ("query_result(topk(3, up))", d.Lookup("query_result", expr="topk(3, up)")),
        ("up", d.Lookup("series", expr="up")),
    ],
)
def test_what_a_variable_asks_for(query, expected) -> None:
    assert d.lookup({"query": query}, KNOWN) == expected


SOURCES = [d.DataSource("p1", "prometheus", "Prometheus", default=True), d.DataSource("t1", "tempo", "Tempo")]


@pytest.mark.parametrize(
    ("reference", "uid"),
    [
        ({"type": "prometheus", "uid": "p1"}, "p1"),
        ({"uid": "$ds"}, "t1"),
        ("Tempo", "t1"),
        (None, "p1"),
        ("default", "p1"),
        ({"type": "__expr__", "uid": "__expr__"}, "__expr__"),
    ],
)
def test_data_source_of_a_panel(reference, uid) -> None:
    assert d.source_of(reference, {"ds": d.Variable("ds", ("t1",))}, SOURCES).uid == uid


@pytest.mark.parametrize("reference", [{"type": "prometheus", "uid": "gone"}, {"uid": "${ds}"}, {"type": "tempo"}])
def test_a_data_source_that_does_not_exist_is_named_with_those_that_do(reference) -> None:
    with pytest.raises(d.DashboardError, match=r"no data source .*Prometheus \(prometheus, UID p1\), Tempo \(tempo, UID t1\)"):
        d.source_of(reference, {}, SOURCES)


# Answers


def frame(*columns: tuple, name: str = "", meta: dict | None = None) -> dict:
    fields = [{"name": kind, "type": kind, **(more[0] if more else {})} for kind, _values, *more in columns]
    return {"schema": {"name": name, "fields": fields, "meta": meta or {}}, "data": {"values": [values for _kind, values, *_more in columns]}}


LINE = frame(("time", [1, 2]), ("number", [None, 3]))
NAN = frame(("time", [1]), ("number", [None]))
EMPTY = frame(("time", []), ("number", []))
EXEMPLARS = frame(("time", [1, 2]), ("number", [1, 2]), ("string", ["a", "b"]), name="exemplar", meta={"custom": {"resultType": "exemplar"}})
TABLE = frame(("time", [1, 1]), ("string", ["a", "b"]), ("number", [0, 1]))


@pytest.mark.parametrize(
    ("frames", "state", "series", "exemplars", "words"),
    [
        ([LINE], "data", 1, 0, ""),
        ([LINE, LINE, NAN], "data", 2, 0, ""),
        ([TABLE], "data", 2, 0, ""),
        ([LINE, EXEMPLARS], "data", 1, 2, ""),
        ([EXEMPLARS], "no_data", 0, 2, "found nothing"),
        ([NAN], "no_data", 0, 0, "NaN"),
        ([EMPTY], "no_data", 0, 0, "found nothing"),
        ([frame()], "no_data", 0, 0, "found nothing"),
        ([{}], "no_data", 0, 0, "found nothing"),
        ([], "no_data", 0, 0, "found nothing"),
    ],
)
def test_frames(frames, state, series, exemplars, words) -> None:
    outcome = d.judge_frames(frames)
    assert (outcome.state, outcome.series, outcome.exemplars) == (state, series, exemplars)
    assert words in outcome.text


def results(**by_ref) -> bytes:
    return json.dumps({"results": by_ref}).encode()


@pytest.mark.parametrize(
    ("status", "body", "state", "words", "hopeless"),
    [
        (200, results(A={"status": 200, "frames": [LINE]}), "data", "", False),
        (200, results(A={"frames": []}), "no_data", "found nothing", False),
        (200, results(), "no_data", "found nothing", False),
        (400, results(A={"status": 400, "error": "bad_data: invalid parameter"}), "error", "bad_data: invalid parameter", True),
        (400, results(A={"error": "1:5: parse error: unexpected end"}), "error", "parse error", True),
        (
            400,
            results(A={"error": 'Post "http://p:9090": dial tcp: connection\nrefused', "frames": [LINE]}),
            "error",
            "dial tcp: connection refused",
            False,
        ),
        (207, results(A={"status": 502, "error": "bad gateway"}), "error", "bad gateway", False),
        (400, results(A={"status": 401, "error": "Unauthorized"}), "error", "Unauthorized", False),
        (200, results(A={"status": 401, "frames": [{"schema": {"fields": []}, "data": {"values": []}}]}), "error", "answers 401", False),
        (404, b'{"message": "Data source not found"}', "error", "404 Data source not found", False),
        (400, b'{"message": "bad request data"}', "error", "400 bad request data", True),
        (503, b"<html>down</html>", "error", "503 <html>down</html>", False),
        (500, b"[1]", "error", "500 [1]", False),
    ],
)
def test_answers_of_the_query_api(status, body, state, words, hopeless) -> None:
    outcome = d.judge_answer(status, body, {"A": None})["A"]
    assert (outcome.state, outcome.hopeless) == (state, hopeless)
    assert words in outcome.text and "\n" not in outcome.text


def line(kind: str, *values: float | None, start: int = 1_700_000_000_000) -> dict:
    """A frame with a value a minute."""
    times = [start + 60_000 * number for number in range(len(values))]
    return {"schema": {"fields": [{"type": "time"}, {"type": kind}]}, "data": {"values": [times, list(values)]}}


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        ([line("number", 1, 2, 3)], "data"),
        ([line("number", 1, 2, None)], "no_data"),
        ([line("number", 1, 2, None), line("number", 1, 2, 3)], "data"),
        ([line("string", "a", "b", None)], "data"),  # a table has no newest row
        ([{"schema": {"fields": [{"type": "number"}]}, "data": {"values": [[1]]}}], "data"),
    ],
)
def test_a_line_that_has_ended_is_no_data(frames, state) -> None:
    outcome = d.judge_frames(frames, since=1_700_000_000_000 + 120_000)
    assert outcome.state == state
    assert d.judge_frames(frames).state == "data"
    if state == "no_data":
        assert outcome.text == "the newest value is of 2023-11-14 22:14:20 UTC"


@pytest.mark.parametrize(
    ("status", "body", "spans", "state", "series", "words"),
    [
        (200, {"traces": [{"traceID": "1"}, {"traceID": "2"}]}, False, "data", 2, ""),
        (200, {"traces": [{"spanSets": [{"spans": [1, 2]}]}, {"spanSet": {"spans": [1]}}]}, True, "data", 3, ""),
        (200, {"traces": []}, False, "no_data", 0, "no trace"),
        (200, {"metrics": {}}, False, "no_data", 0, "no trace"),
        (400, "invalid TraceQL query: parse error\nat line 1", False, "error", 0, "400 invalid TraceQL query: parse error at line 1"),
        (502, "", False, "error", 0, "502"),
        (200, "<html>", False, "error", 0, "not an answer of Tempo's"),
    ],
)
def test_answers_of_a_search(status, body, spans, state, series, words) -> None:
    outcome = d.judge_search(status, (body if isinstance(body, str) else json.dumps(body)).encode(), spans)
    assert (outcome.state, outcome.series) == (state, series)
    assert words in outcome.text


GOOD, NONE = d.Outcome("data", series=2, exemplars=1), d.Outcome("no_data", "the query found nothing")
BAD = d.Outcome("error", "refused", hopeless=True)


@pytest.mark.parametrize(
    ("outcomes", "state", "text"),
    [
        ({"A": GOOD, "B": GOOD}, "data", ""),
        ({"A": GOOD, "B": NONE}, "no_data", "the query found nothing (query B)"),
        ({"A": NONE}, "no_data", "the query found nothing"),
        ({"A": NONE, "B": NONE}, "no_data", "the query found nothing"),
        ({"A": GOOD, "B": NONE, "C": NONE}, "no_data", "the query found nothing (query B, C)"),
        ({"A": NONE, "B": BAD}, "error", "refused (query B)"),
    ],
)
def test_a_panel_shows_data_only_if_all_its_queries_do(outcomes, state, text) -> None:
    panel = d.together(outcomes)
    assert (panel.state, panel.text) == (state, text)
    assert panel.series == sum(one.series for one in outcomes.values())


def test_selectors_of_a_query() -> None:
    expr = 'sum by (a) (rate(x:y_total{a="1", b=~"c|{d}"}[5m])) / on (a) up{} + up{} - vector(1) or count(plain)'
    assert d.selectors(expr) == [d.Selector("x:y_total", (("a", "=", '"1"'), ("b", "=~", '"c|{d}"'))), d.Selector("up", ())]


@pytest.mark.parametrize(
    ("query", "metrics"),
    [
        ("{ status = error }", False),
        ("{ } | rate()", True),
        ("{ } | quantile_over_time(duration, .9) by (name)", True),
        ('{ name = "rate()" } | select(duration)', False),
    ],
)
def test_traceql_of_metrics(query, metrics) -> None:
    assert d.traceql_metrics(query) is metrics


def test_results_become_texts_for_a_variables_regex() -> None:
    one = frame(("time", [1700000000000]), ("number", [3.5], {"labels": {"__name__": "up", "b": "2", "a": "1"}}))
    assert d.result_texts([one]) == ['up{a="1",b="2"} 3.5 1700000000000']
