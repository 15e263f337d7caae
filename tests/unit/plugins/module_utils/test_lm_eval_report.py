# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The page about evaluations: what is on it, that it needs nothing else, and that nothing in a name can break it."""

from __future__ import annotations

import html.parser
import json
import xml.etree.ElementTree as ElementTree

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_report
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_gate import Gate
from ansible_collections.private_ai.model_monitoring.plugins.modules import lm_eval_report, lm_eval_results_info


def job(name, model, score, created="2026-11-25T22:00:00Z", stderr=0.049, **status):
    text = json.dumps({"results": {"gsm8k": {"exact_match,strict-match": score, "exact_match_stderr,strict-match": stderr}}})
    status = {"state": "Complete", "reason": "Succeeded", "completeTime": created, "results": text, **status}
    spec = {"modelArgs": [{"name": "model", "value": model}], "taskList": {"taskNames": ["gsm8k"]}}
    return {"metadata": {"name": name, "namespace": "demo", "creationTimestamp": created}, "spec": spec, "status": status}


JOBS = [
    job("old", "full", 0.1, "2026-11-24T22:00:00Z"),
    job("full", "full", 0.61),
    job("small", "small", 0.4),
    job("bad", "small", 0.0, "2026-11-25T23:00:00Z", reason="Failed", message="exit status 1"),
]


def results(*jobs, margin=0.02):
    found = lm_eval_results_info.result(jobs or JOBS, Gate(margin), {"small": "full"})
    return found["evaluations"], found["comparisons"]


class Tags(html.parser.HTMLParser):
    """Tags and attributes, and that they are closed in their order."""

    VOID = ("meta", "br", "hr", "img", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.seen = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_says_what_it_is_about():
    page = _lm_eval_report.page("Models of today", *results())
    tags = Tags(page)
    assert "<h1>Models of today</h1>" in page and "4 evaluations, the last of 2026-11-25T23:00:00Z" in page
    assert 'class="verdict worse">small is worse than full on gsm8k exact_match (strict-match): 0.61 ± 0.049 -&gt; 0.4 ± 0.049' in page
    assert "<td>exit status 1</td>" in page and '<td class="failed">failed</td>' in page
    assert '<td class="number">0.6100 ± 0.0490</td>' in page
    assert tags.seen.count("table") == 3 and tags.seen.count("svg") == 1


def test_it_needs_nothing_else():
    page = _lm_eval_report.page("a", *results())
    tags = Tags(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.seen)
    links = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href") and not value.startswith("#")]
    assert links == []


def test_the_newest_scores_alone():
    evaluations, _comparisons = results()
    rows = _lm_eval_report.newest_scores(evaluations)
    assert [(row["model"], row["value"], row["job"]) for row in rows] == [("full", 0.61, "full"), ("small", 0.4, "small")]


def test_the_same_results_make_the_same_page():
    assert _lm_eval_report.page("a", *results()) == _lm_eval_report.page("a", *results())


def test_the_plot_is_a_picture_with_every_model():
    evaluations, _comparisons = results()
    svg = ElementTree.fromstring(_lm_eval_report.plot(_lm_eval_report.newest_scores(evaluations)))
    words = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"full", "small"} <= words
    assert svg.get("role") == "img" and svg.get("aria-label")


@pytest.mark.parametrize("value", [float("nan"), "N/A"])
def test_numbers_that_are_none(value):
    page = _lm_eval_report.page("a", *results(job("full", "full", value, stderr="N/A"), job("small", "small", 0.4)))
    assert "nan" not in page.lower().replace("nanum", "")
    assert "small cannot be compared" not in page and "No model has been compared with a baseline." in page


def test_nothing_in_a_name_breaks_it():
    evil = '<script>alert("1")</script>&'
    Tags(_lm_eval_report.page(evil, *results(job(evil, evil, 0.5), job("b", "small", 0.5, reason="Failed", message=evil))))
    assert "<script>" not in _lm_eval_report.page(evil, *results(job(evil, evil, 0.5)))


def test_without_any_evaluation():
    page = _lm_eval_report.page("a", [], [])
    Tags(page)
    assert "<p>0 evaluations.</p>" in page and "<svg" not in page


@pytest.mark.parametrize(
    ("score", "kind", "words"), [(0.4, "worse", "small is worse than full"), (0.6, "not worse", "small is not worse than full, in none of 1")]
)
def test_verdicts(score, kind, words):
    _evaluations, comparisons = results(job("full", "full", 0.61), job("small", "small", score))
    found = _lm_eval_report.verdict(comparisons)
    assert found[0] == kind and found[1].startswith(words)


def test_the_same_as_json():
    content = json.loads(_lm_eval_report.data(*results()))
    assert content["verdict"] == "worse" and content["scores"][0]["value"] == 0.61
    assert len(content["evaluations"]) == 4 and len(content["comparisons"]) == 1


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(_lm_eval_report, "IMPORT_ERROR", ImportError("No module named 'matplotlib'"))
    with pytest.raises(ModelMonitoringError, match="Python package matplotlib is needed for .*: install it there with pip"):
        _lm_eval_report.page("a", [], [])


def test_files_are_written_when_they_are_not_what_they_shall_be(tmp_path):
    path = tmp_path / "a"
    assert lm_eval_report.write(path, "x", dry=True) and not path.exists()
    assert lm_eval_report.write(path, "x", dry=False) and path.read_text() == "x"
    assert not lm_eval_report.write(path, "x", dry=False)
    assert lm_eval_report.write(path, "y", dry=True) and path.read_text() == "x"
