# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Pushes what evaluations have found to a Pushgateway; one run of a CronJob in the cluster.

Reads the LMEvalJobs of its namespace, which is all that its service account may do, and pushes a group of series for each model and task: the
newest scores, and how the newest job stands. A group is put in one request, so that there is never half of one. Groups of models and tasks of which
there is no job any more are deleted, because a Pushgateway never forgets. Nothing is kept here: what a run could not push, the next one does.

Needs Python's standard library and, beside it in the same folder, ``_lm_eval.py`` of the collection.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

import _lm_eval

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Key = tuple[str, str]
    Request = Callable[[str, str, bytes | None], bytes]

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT = 30
STATES = {_lm_eval.FAILED: -1, _lm_eval.CANCELLED: -1, _lm_eval.WAITING: 0, _lm_eval.RUNNING: 1, _lm_eval.SUCCEEDED: 2}
ERRORS = "lm_eval_export_errors_total"

#: Series with type and meaning, in the order in which they are pushed.
SERIES = {
    "lm_eval_score": ("gauge", "Newest score of a model in a task."),
    "lm_eval_score_stderr": ("gauge", "Standard error of the score."),
    "lm_eval_accuracy": ("gauge", "Newest score where it is a share of right answers."),
    "lm_eval_samples": ("gauge", "Documents that the newest scores were taken from."),
    "lm_eval_completion_time": ("gauge", "When the evaluation with the newest scores ended, in seconds since 1970."),
    "lm_eval_job_state": ("gauge", "Newest evaluation: -1 failed, 0 waiting, 1 running, 2 complete."),
    "lm_eval_newest_result_timestamp_seconds": ("gauge", "When the newest evaluation with scores ended, in seconds since 1970."),
    "lm_eval_export_timestamp_seconds": ("gauge", "When evaluations were pushed, in seconds since 1970."),
    ERRORS: ("counter", "Jobs with results that could not be read, counted at each export."),
}


class Group:
    """Samples that are pushed together."""

    def __init__(self) -> None:
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """Add a sample; one without a value is left out."""
        if value is not None:
            inner = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
            self._samples.setdefault(name, []).append(f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}")

    def text(self) -> bytes:
        """The group in Prometheus' text format."""
        lines: list[str] = []
        for name in filter(self._samples.__contains__, SERIES):
            kind, meaning = SERIES[name]
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *self._samples[name]]
        return "".join(f"{line}\n" for line in lines).encode()


def groups(evaluations: Sequence[_lm_eval.Evaluation]) -> dict[Key, Group]:
    """By model and task what is to be pushed of it."""
    found: dict[Key, Group] = {}
    for (model, task), (one, scores) in _lm_eval.newest_scores(evaluations).items():
        group = found[model, task] = Group()
        for score in scores:
            labels = {"model": model, "task": task, "metric": score.metric, "filter": score.filter}
            group.add("lm_eval_score", score.value, **labels)
            group.add("lm_eval_score_stderr", score.stderr, **labels)
            if _lm_eval.ACCURACY.match(score.metric):
                group.add("lm_eval_accuracy", score.value, **labels)
        group.add("lm_eval_samples", scores[0].samples, model=model, task=task)
        group.add("lm_eval_completion_time", _lm_eval.seconds(one.completed), model=model, task=task)
    for (model, task), state in newest_states(evaluations).items():
        found.setdefault((model, task), Group()).add("lm_eval_job_state", STATES[state], model=model, task=task)
    return found


def newest_states(evaluations: Iterable[_lm_eval.Evaluation]) -> dict[Key, str]:
    """By model and task how the newest job stands: tasks that were asked for, and those of a group that have scores."""
    found: dict[Key, str] = {}
    for one in _lm_eval.newest(evaluations):
        for task in (*one.tasks, *(score.task for score in one.scores)):
            found.setdefault((one.model, task), one.state)
    return found


def summary(evaluations: Sequence[_lm_eval.Evaluation], errors_before: float, now: float) -> Group:
    """What is pushed of the export itself."""
    group = Group()
    completed = [_lm_eval.seconds(one.completed) for one in evaluations if one.scores]
    group.add("lm_eval_newest_result_timestamp_seconds", max((value for value in completed if value), default=None))
    group.add("lm_eval_export_timestamp_seconds", now)
    group.add(ERRORS, errors_before + sum(bool(one.error) for one in evaluations))
    return group


def path(job: str, labels: Mapping[str, str]) -> str:
    """The path of a group; values in base64, because they may hold slashes, or be nothing."""
    parts = {"job": job, **labels}
    return "/metrics/" + "/".join(f"{name}@base64/{base64.urlsafe_b64encode(value.encode()).decode() or '='}" for name, value in parts.items())


def escaped(text: str) -> str:
    """A label's value in the text format."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def pushed(answer: bytes, job: str) -> tuple[set[Key], float]:
    """The models and tasks that this exporter has groups of, and the errors that it has counted, from the Pushgateway's own account."""
    keys: set[Key] = set()
    errors = 0.0
    for group in json.loads(answer)["data"]:
        labels = group["labels"]
        if labels.get("job") != job:
            continue
        if labels.keys() == {"job", "model", "task"}:
            keys.add((labels["model"], labels["task"]))
        elif labels.keys() == {"job"} and ERRORS in group:
            errors = float(group[ERRORS]["metrics"][0]["value"])
    return keys, errors


def export(jobs: Iterable[t.Mapping[str, t.Any]], job: str, request: Request, now: float) -> list[str]:
    """Push all, delete what is gone; returns what to say of jobs whose results cannot be read.

    ``request``: sends method, path and body to the Pushgateway, and returns the answer's body.
    """
    evaluations = [_lm_eval.read(one) for one in jobs]
    there, errors = pushed(request("GET", "/api/v1/metrics", None), job)
    wanted = groups(evaluations)
    for (model, task), group in wanted.items():
        request("PUT", path(job, {"model": model, "task": task}), group.text())
    for model, task in sorted(there - wanted.keys()):
        request("DELETE", path(job, {"model": model, "task": task}), None)
    request("PUT", path(job, {}), summary(evaluations, errors, now).text())
    return [f"LMEvalJob {one.namespace}/{one.job}: {one.error}" for one in evaluations if one.error]


def main() -> int:
    pushgateway = os.environ["PUSHGATEWAY"].rstrip("/")
    namespace = os.environ["NAMESPACE"]
    try:
        jobs = read_jobs(namespace, os.environ.get("SELECTOR", ""))
        for line in export(jobs, f"lm-eval-{namespace}", sender(pushgateway), time.time()):
            print(line, file=sys.stderr)
    except (OSError, ValueError, KeyError) as error:  # urllib's errors are OSErrors
        said = error.read().decode("utf-8", "replace").strip() if isinstance(error, urllib.error.HTTPError) else ""
        print(
            f"Evaluations were not pushed to {pushgateway}: {error}{f' ({said[:500]})' if said else ''}. The next run tries again.", file=sys.stderr
        )
        return 1
    return 0


def read_jobs(namespace: str, selector: str) -> list[dict[str, t.Any]]:
    """The LMEvalJobs of a namespace, as the pod's service account may read them."""
    with open(f"{ACCOUNT}/token", encoding="ascii") as file:
        token = file.read().strip()
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    query = urllib.parse.urlencode({"labelSelector": selector})
    url = f"https://{place}/apis/trustyai.opendatahub.io/v1alpha1/namespaces/{namespace}/lmevaljobs?{query}"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT, context=ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")) as answer:
        return json.load(answer)["items"]


def sender(pushgateway: str) -> Request:
    """Sends requests to the Pushgateway."""

    def request(method: str, at: str, body: bytes | None) -> bytes:
        asked = urllib.request.Request(pushgateway + at, data=body, method=method, headers={"Content-Type": "text/plain; version=0.0.4"})
        with urllib.request.urlopen(asked, timeout=TIMEOUT) as answer:
            return answer.read()

    return request


if __name__ == "__main__":
    sys.exit(main())
