# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What holds for every panel of every dashboard, read from the JSON that users get."""

from __future__ import annotations

import json
import re
from pathlib import Path

import promql_parser
import pytest

from dashboards import parts
from dashboards.__main__ import FOLDER, rendered

ROOT = FOLDER.parents[3]
UIDS = ("ai-ml-performance", "model-quality", "stack-health", "tempo-trace-explorer")
DASHBOARDS = {uid: json.loads((FOLDER / f"{uid}.json").read_text(encoding="utf-8")) for uid in UIDS}
PANELS = [
    pytest.param(board, panel, id=f"{uid}-{panel['title']}")
    for uid, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
#: Variables that Grafana itself gives.
BUILT_IN = {"__rate_interval", "__interval", "__range", "__from", "__to", "__value"}
NAME = re.compile(r"\$(?:\{(\w+)(?:[:.]\w+)*\}|(\w*[A-Za-z_]\w*))")


def names(text: str) -> set[str]:
    """Names of the variables in a text; ``$1`` is none of them."""
    return {one or other for one, other in NAME.findall(text)}


def plain(text: str) -> str:
    """A PromQL query with something valid in place of each variable."""
    text = re.sub(r"\[\$__\w+\]", "[5m]", text)
    text = re.sub(r"vector\(\$\w+\)", "vector(1)", text)
    return NAME.sub("x", text)


def series(expr: str) -> set[str]:
    """The series that a query reads; raises ValueError where it is no PromQL."""
    found = set()

    def visit(node) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        return True

    promql_parser.walk(promql_parser.parse(plain(expr)), visit)
    return found


def queries(board: dict) -> list[str]:
    """Every PromQL query of a dashboard: of panels, and what the selectors of its variables come down to."""
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", []) if "expr" in target]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            asked.append(re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])[1])
    return asked


def documented() -> set[str]:
    """The series that docs/metrics.md names."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return {re.sub(r"\{.*", "", word) for word in re.findall(r"`([^`]+)`", text)}


def test_what_is_committed_is_what_renders() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == rendered(), "run `make dashboards`"
    assert set(committed) == {f"{uid}.json" for uid in UIDS}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_panel_says_what_it_shows(board, panel) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for text in (panel["title"], panel["description"], defaults["unit"], defaults["noValue"]):
        assert text.strip() == text and text
    reason = panel["description"].partition(parts.MAY_BE_EMPTY)[2]
    assert reason or not any(target["refId"] == parts.EMPTY for target in panel["targets"])
    assert all(target.get("hide", False) == (target["refId"] == parts.EMPTY) for target in panel["targets"])
    assert parts.MAY_BE_EMPTY not in panel["description"] or reason.endswith(".")
    assert [panel["title"] for panel in board["panels"]].count(panel["title"]) == 1, "a message that names it would be ambiguous"


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_data_source_is_a_variable(board, panel) -> None:
    sources = {variable["name"]: variable["query"] for variable in board["templating"]["list"] if variable["type"] == "datasource"}
    assert panel["targets"]
    for one in (panel, *panel["targets"]):
        name = one["datasource"]["uid"].removeprefix("${").removesuffix("}")
        assert one["datasource"] == {"type": sources[name], "uid": f"${{{name}}}"}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_query_uses_the_variables(board, panel) -> None:
    """A panel that none of the dashboard's controls change is one that lies about what it shows."""
    declared = {variable["name"] for variable in board["templating"]["list"]}
    for target in panel["targets"]:
        text = target.get("expr") or target.get("query") or ""
        assert names(text) <= declared | BUILT_IN, text
        # Grafana takes a service map's services from the series; nobody sees a hidden query.
        if target.get("queryType") != "serviceMap" and not target.get("hide"):
            assert names(text) & declared, text
    links = json.dumps(panel["fieldConfig"]["overrides"])
    assert names(links) <= declared | BUILT_IN


@pytest.mark.parametrize("uid", UIDS)
def test_every_query_is_promql_of_documented_series(uid) -> None:
    known = documented()
    asked = queries(DASHBOARDS[uid])
    assert asked
    for query in asked:
        assert series(query) <= known, f"not in docs/metrics.md: {sorted(series(query) - known)}"


@pytest.mark.parametrize("query", ["rate(up[5m]", "sum by namespace (up)", "up{namespace=~}", "up on (job) * up"])
def test_a_query_that_is_no_promql_is_found(query) -> None:
    with pytest.raises(ValueError):
        series(query)


@pytest.mark.parametrize("uid", UIDS)
def test_variables_are_chained_and_all_used(uid) -> None:
    board = DASHBOARDS[uid]
    before: set[str] = set()
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert names(variable["query"]) | names(variable["datasource"]["uid"]) <= before, "a variable may use only those before it"
        before.add(variable["name"])
    panels = json.dumps(board["panels"])
    assert before == names(panels) & before


@pytest.mark.parametrize("uid", UIDS)
def test_panels_fill_the_grid_without_overlap(uid) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[uid]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert panel["type"] == "row" or at["w"] >= 4, f"{panel['title']}: cannot be read at 1280 px"
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _x, y in taken)), "a hole"


@pytest.mark.parametrize("uid", UIDS)
def test_titles_can_be_read_at_1280_px(uid) -> None:
    """A column is about 50 px wide there, a letter of a title 8 px."""
    for panel in DASHBOARDS[uid]["panels"]:
        assert 8 * len(panel["title"]) <= 50 * panel["gridPos"]["w"] - 30, panel["title"]


@pytest.mark.parametrize("uid", UIDS)
def test_ids(uid) -> None:
    board = DASHBOARDS[uid]
    ids = [panel["id"] for panel in board["panels"]]
    assert board["uid"] == uid and "id" not in board
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(refs)) == len(refs)


def test_exemplars_lead_to_traces() -> None:
    asked = [
        target["expr"] for board in DASHBOARDS.values() for panel in board["panels"] for target in panel.get("targets", []) if target.get("exemplar")
    ]
    assert asked and all("_bucket" in expr for expr in asked)


@pytest.mark.parametrize("uid", UIDS)
def test_tables_show_every_query_in_a_column_with_a_name(uid) -> None:
    for panel in DASHBOARDS[uid]["panels"]:
        if panel["type"] != "table" or panel["datasource"]["uid"] != "${prometheus}":
            continue
        (names_of,) = [step["options"]["renameByName"] for step in panel["transformations"] if step["id"] == "organize"]
        refs = [target["refId"] for target in panel["targets"] if not target.get("hide")]
        values = ["Value"] if len(refs) == 1 else [f"Value #{ref}" for ref in refs]
        assert set(values) <= set(names_of) and len(set(names_of.values())) == len(names_of)
        assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= set(names_of.values())


def test_rendering_writes_only_what_changed(tmp_path: Path, capsys) -> None:
    from dashboards.__main__ import main

    main(tmp_path)
    assert capsys.readouterr().out.count("written") == len(UIDS)
    main(tmp_path)
    assert capsys.readouterr().out == ""
