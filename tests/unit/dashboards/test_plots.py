# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the plots make of results: values in words, tables as their transformations say, traces as rows."""

from __future__ import annotations

import json

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import DataSource, Outcome
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard_probe import Board, Wish

from dashboards import plots
from dashboards.__main__ import FOLDER


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.0, "s", None, "0"),
        (0.25, "s", None, "250 ms"),
        (2.2, "s", 2, "2.20 s"),
        (5400, "s", None, "1.50 h"),
        (86400 * 9, "s", 0, "1 weeks"),
        (0.123, "percentunit", 1, "12.3 %"),
        (55.5, "percent", None, "55.5 %"),
        (1536, "bytes", None, "1.50 KiB"),
        (40000, "mbytes", None, "39.1 GiB"),
        (1234, "suffix: tok/s", 0, "1,234 tok/s"),
        (3, "short", None, "3"),
        (1700000000000, "dateTimeAsIso", None, "2023-11-14 22:13:20"),
        (None, "s", None, ""),
        ("words", "s", None, "words"),
    ],
)
def test_values_in_words(value, unit, decimals, text) -> None:
    assert plots.shown(value, unit, decimals) == text


def panel(uid: str, title: str) -> dict:
    return next(one for one in json.loads((FOLDER / f"{uid}.json").read_text())["panels"] if one["title"] == title)


def table(value: float, **labels: str) -> dict:
    fields = [{"name": "Time", "type": "time"}, *({"name": name, "type": "string"} for name in labels), {"name": "Value", "type": "number"}]
    return {"schema": {"fields": fields}, "data": {"values": [[1], *([one] for one in labels.values()), [value]]}}


def older(value: float, **labels: str) -> dict:
    """As Grafana 10.0 answers, whose front end makes the table."""
    return {
        "schema": {"fields": [{"name": "Time", "type": "time"}, {"name": "Value", "type": "number", "labels": labels}]},
        "data": {"values": [[1], [value]]},
    }


@pytest.mark.parametrize("table", [table, older])
def test_a_table_is_merged_renamed_and_ordered(table) -> None:
    labels = {"namespace": "n", "job": "j"}
    outcomes = {"A": Outcome("data", frames=[table(0, **labels)]), "B": Outcome("data", frames=[table(3, **labels)])}
    one = panel("stack-health", "Targets")
    columns, rows = plots.table_of(one, outcomes)
    assert (columns, rows) == (["Namespace", "Job", "State", "Targets"], [["n", "j", 0, 3]])
    looks = plots.Looks(one)
    assert [looks.write(value, name)[0] for value, name in zip(rows[0], columns, strict=True)] == ["n", "j", "Down", "3"]


def test_the_verdict_is_in_words() -> None:
    looks = plots.Looks(panel("model-quality", "Is the quantised model worse?"))
    assert looks.write(-1.0) == ("Quantised scores lower", plots.COLOURS["red"])
    assert looks.write(0.0)[0] == "No difference beyond chance"


TRACE = {
    "traceID": "ab" * 16, "rootServiceName": "s", "rootTraceName": "root", "startTimeUnixNano": "1700000000000000000", "durationMs": 12,
    "spanSets": [{"spans": [{"name": "chat", "startTimeUnixNano": "1700000000000000000", "durationNanos": "5000000",
                             "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}]}]}],
}  # fmt: skip


def test_traces_and_spans_as_rows() -> None:
    found = Outcome("data", frames=[TRACE])
    assert plots.found_traces(found, spans=False)[1] == [["ab" * 8, "22:13:20", "s", "root", "12 ms"]]
    columns, rows = plots.found_traces(found, spans=True)
    assert columns[-1] == "usage.input_tokens" and rows == [["ab" * 8, "22:13:20", "chat", "5 ms", "7"]]


class Empty:
    """A Grafana that has nothing."""

    def values(self, source, lookup, asked) -> list[str]:
        return []

    def run(self, queries, asked) -> dict[str, Outcome]:
        return {query["refId"]: Outcome("no_data") for query in queries}

    def search(self, *_more) -> Outcome:
        return Outcome("no_data")


def test_a_dashboard_without_data_is_drawn_with_its_own_words(tmp_path) -> None:
    model = json.loads((FOLDER / "tempo-trace-explorer.json").read_text())
    sources = [DataSource("p", "prometheus", "P"), DataSource("t", "tempo", "T", settings={"serviceMap": {"datasourceUid": "p"}})]
    figure = plots.draw(Board(Empty(), model, sources, Wish()), model)
    words = {text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts}
    assert "No spans of these services in this time range" in words
    said = " ".join(text.get_text() for text in figure.texts)
    assert "not Grafana's page" in said
    figure.savefig(tmp_path / "x.png")
    assert plots.matplotlib.image.imread(tmp_path / "x.png").shape[1] == 1280
