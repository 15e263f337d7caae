# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Which jobs are made, in which order, when they have ended and why: on a cluster of dictionaries and a fake clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval, _lm_eval_run, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_run import Course, Evidence, Judge, Settings, Wanted

RESULTS = (Path(__file__).parent / "fixtures" / "lm_eval_group_and_filters.json").read_text()
STUCK_AFTER = 600.0


def wanted(name="arc", model="full", **spec):
    arguments = [{"name": "model", "value": "mistral-24b"}]
    return Wanted(name, model, {"model": "local-completions", "modelArgs": arguments, "taskList": {"taskNames": ["arc_easy"]}, **spec})


def succeeded(text=RESULTS):
    return {"state": "Complete", "reason": "Succeeded", "completeTime": "2026-11-25T22:05:00Z", "message": "job completed", "results": text}


FAILED = {"state": "Complete", "reason": "Failed", "completeTime": "2026-11-25T22:05:00Z", "message": "exit status 1"}
RUNNING = {"state": "Running", "message": "Requesting API:  40%"}


class Cluster:
    """API server, view and clock in one: jobs, pods, events and logs by name."""

    def __init__(self, *jobs):
        self.jobs, self.pods, self.logs, self.events = {}, {}, {}, []
        self.now = 1000.0
        self.trouble, self.outages = "", _wait.Outages()
        self.refuse, self.dry = None, []
        for job in jobs:
            self.jobs[job["metadata"]["name"]] = job

    def clock(self):
        return self.now

    # The API server
    def create(self, path, body, what, **query):
        if self.refuse:
            raise self.refuse
        assert path == "/apis/trustyai.opendatahub.io/v1alpha1/namespaces/demo/lmevaljobs"
        assert query.pop("fieldValidation") == "Strict"
        assert body["metadata"]["name"] not in self.jobs
        if query == {"dryRun": "All"}:
            self.dry.append(body["metadata"]["name"])
            return body
        self.jobs[body["metadata"]["name"]] = {**body, "metadata": {**body["metadata"], "creationTimestamp": stamp(self.now)}}
        return body

    def delete(self, path, what, **query):
        name = path.rpartition("/")[2]
        if name not in self.jobs:
            raise KubeError("gone", status=404)
        del self.jobs[name]
        return {}

    def get(self, path, what, **query):
        if path.endswith("/lmevaljobs"):
            return {"items": list(self.jobs.values())}
        if path.endswith("/events"):
            return {"items": [event for event in self.events if event["about"] == query["fieldSelector"].partition("=")[2]]}
        name = path.rpartition("/")[2]
        if name not in self.pods:
            raise KubeError("no pod", status=404)
        return self.pods[name]

    def text(self, path, what, **query):
        assert query == {"container": "main", "tailLines": "120"}
        return self.logs[path.split("/")[-2]]

    # The view
    def items(self, selection):
        return list(self.jobs.values()) if selection.path.endswith("lmevaljobs") else list(self.pods.values())

    def pause(self, seconds):
        self.now += seconds


def stamp(now):
    return f"2026-11-25T22:{int(now // 60) % 60:02}:{int(now) % 60:02}Z"


def judge(cluster, *evaluations, parallel=1, rerun=False):
    return Judge(cluster, "demo", evaluations, Settings(parallel, STUCK_AFTER, rerun), cluster.clock)


def existing(one, number=1, status=None, created="2026-11-25T21:00:00Z"):
    job = one.manifest("demo", number)
    return {**job, "metadata": {**job["metadata"], "creationTimestamp": created}, **({"status": status} if status else {})}


def pod(name, waiting=None, env=(), phase="Pending"):
    status = {"phase": phase, "containerStatuses": [{"name": "main", "ready": False, "state": {"waiting": waiting} if waiting else {}}]}
    variables = [{"name": key, "value": value} for key, value in env]
    return {"metadata": {"name": name, "namespace": "demo"}, "status": status, "spec": {"containers": [{"name": "main", "env": variables}]}}


class TestNames:
    def test_a_job_is_named_by_its_content(self):
        one = wanted(limit="100")
        assert one.manifest("demo", 1)["metadata"]["name"] == f"arc-{one.content}"
        assert one.manifest("demo", 3)["metadata"]["name"] == f"arc-{one.content}-3"

    def test_what_it_carries(self):
        job = wanted().manifest("demo", 1)
        assert job["metadata"]["labels"][_lm_eval.EVALUATION_LABEL] == "arc"
        assert _lm_eval.read(job).model == "full"

    def test_the_same_content_in_another_order_is_the_same(self):
        assert Wanted("a", "m", {"x": 1, "y": 2}).content == Wanted("a", "m", {"y": 2, "x": 1}).content

    @pytest.mark.parametrize("other", [wanted(limit="200"), wanted(model="quantised"), Wanted("arc", "full", wanted().spec, {"mesh": "no"})])
    def test_other_content_is_another_job(self, other):
        assert other.content != wanted().content

    def test_its_own_name_is_not_content(self):
        assert wanted("other").content == wanted().content

    @pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a" * 49])
    def test_names_that_no_job_has(self, name):
        with pytest.raises(ModelMonitoringError, match="cannot be that of a job"):
            wanted(name).check()
        wanted("a" * 48).check()


def test_parameters():
    items = [{"name": "a", "model": "m", "spec": {}, "annotations": None}, {"name": "b", "model": "m", "spec": {}}]
    assert [one.name for one in _lm_eval_run.parse(items)] == ["a", "b"]
    with pytest.raises(ModelMonitoringError, match="a is there twice"):
        _lm_eval_run.parse([items[0]] * 2)
    with pytest.raises(ModelMonitoringError, match="cannot be that of a job"):
        _lm_eval_run.parse([{**items[0], "name": "A"}])
    numbers = {"parallel": 2, "keep": 1, "stuck_after": 5, "timeout": 1, "rerun": True}
    assert Settings.parse(numbers) == Settings(2, 5, True)
    for name in ("parallel", "keep", "stuck_after", "timeout"):
        with pytest.raises(ModelMonitoringError, match=f"{name}: 0 is too small"):
            Settings.parse({**numbers, name: 0})


class TestChoice:
    @pytest.mark.parametrize(
        ("status", "rerun", "number"),
        [
            (None, False, 0),
            (RUNNING, False, 0),
            (RUNNING, True, 0),
            (succeeded(), False, 0),
            (succeeded(), True, 2),
            (FAILED, False, 2),
            (succeeded("{"), False, 2),
            ({**FAILED, "reason": "Cancelled"}, False, 2),
        ],
    )
    def test_one_that_is_there(self, status, rerun, number):
        one = wanted()
        name, found = _lm_eval_run.choose(one, [existing(one, status=status)], rerun)
        assert (name, found) == (f"arc-{one.content}" if not number else "", number)

    def test_none_is_there(self):
        one = wanted()
        assert _lm_eval_run.choose(one, [existing(wanted(limit="200"), status=succeeded())], False) == ("", 1)

    @pytest.mark.parametrize(("other", "number"), [("2026-11-25T20:00:00Z", 0), ("2026-11-25T22:00:00Z", 2)])
    def test_settings_that_come_back_after_others_are_evaluated_again(self, other, number):
        """Else the results of the others would go on being shown."""
        one = wanted()
        jobs = [existing(one, 1, succeeded()), existing(wanted(limit="5"), 1, succeeded(), created=other)]
        assert _lm_eval_run.choose(one, jobs, False)[1] == number

    def test_the_last_one_counts(self):
        one = wanted()
        jobs = [existing(one, 1, succeeded()), existing(one, 10, FAILED), existing(one, 9, succeeded())]
        assert _lm_eval_run.choose(one, jobs, False) == ("", 11)


class TestCourse:
    def test_jobs_of_a_model_run_one_after_the_other_and_models_beside_each_other(self):
        cluster = Cluster()
        evaluations = [wanted("a"), wanted("b"), wanted("c", "quantised")]
        looks = judge(cluster, *evaluations)
        assert [state.phase for state in looks(cluster)] == ["waiting"] * 3
        assert [name.split("-")[0] for name in cluster.jobs] == ["a", "c"]
        finish(cluster, "a")
        states = looks(cluster)
        assert [name.split("-")[0] for name in cluster.jobs] == ["a", "c", "b"]
        assert [state.phase for state in states] == ["ready", "waiting", "waiting"]

    def test_several_of_a_model_at_a_time(self):
        cluster = Cluster()
        judge(cluster, *(wanted(name) for name in "abc"), parallel=2)(cluster)
        assert len(cluster.jobs) == 2

    def test_one_that_runs_already_takes_its_place(self):
        running = wanted("b")
        cluster = Cluster(existing(running, status=RUNNING))
        judge(cluster, wanted("a"), running)(cluster)
        assert list(cluster.jobs) == [f"b-{running.content}"]

    def test_nothing_is_made_where_all_has_been_run(self):
        one = wanted()
        cluster = Cluster(existing(one, status=succeeded()))
        looks = judge(cluster, one)
        assert [state.phase for state in looks(cluster)] == ["ready"]
        assert (list(cluster.jobs), looks.courses["arc"].made) == ([f"arc-{one.content}"], False)

    def test_a_failed_one_lets_the_others_go_on(self):
        cluster = Cluster()
        looks = judge(cluster, wanted("a"), wanted("b"))
        looks(cluster)
        finish(cluster, "a", FAILED)
        looks(cluster)
        assert len(cluster.jobs) == 2 and looks.courses["a"].ended == "failed"

    def test_one_that_failed_is_not_made_again_in_the_same_run(self):
        cluster = Cluster()
        looks = judge(cluster, wanted("a"))
        looks(cluster)
        finish(cluster, "a", FAILED)
        for _look in range(3):
            looks(cluster)
        again = judge(cluster, wanted("a"))
        assert _lm_eval_run.recall(again, json.loads(json.dumps(_lm_eval_run.remember(looks, 7.0))), 9.0) == 7.0
        again(cluster)
        assert len(cluster.jobs) == 1 and again.courses == looks.courses

    def test_a_later_call_knows_what_was_deleted_and_ends_nothing_more(self):
        cluster = Cluster(existing(wanted(limit="1"), status=RUNNING))
        looks = judge(cluster, wanted())
        looks(cluster)
        cluster.jobs |= {job["metadata"]["name"]: job for job in [existing(wanted(limit="2"), status=RUNNING)]}
        again = judge(cluster, wanted())
        _lm_eval_run.recall(again, _lm_eval_run.remember(looks, 7.0), 9.0)
        again(cluster)
        assert again.deleted == looks.deleted and len(cluster.jobs) == 2

    def test_a_first_call_begins_now(self):
        assert _lm_eval_run.recall(judge(Cluster()), {}, 9.0) == 9.0

    def test_what_is_not_wanted_any_more_is_ended_first(self):
        old = wanted(limit="1")
        cluster = Cluster(existing(old, status=RUNNING), existing(wanted(limit="2"), status=succeeded()), existing(wanted("foreign"), status=RUNNING))
        looks = judge(cluster, wanted(limit="3"))
        looks(cluster)
        assert looks.deleted == [f"arc-{old.content}"]
        assert len(cluster.jobs) == 3

    def test_a_job_that_somebody_deletes(self):
        cluster = Cluster()
        looks = judge(cluster, wanted())
        looks(cluster)
        looks(cluster)
        cluster.jobs.clear()
        assert looks(cluster)[0].phase == "ready"
        assert (looks.courses["arc"].ended, looks.courses["arc"].fingerprint) == ("failed", "the job has been deleted")

    def test_a_job_that_the_watch_has_not_shown_yet(self):
        cluster = Cluster()
        looks = judge(cluster, wanted())
        looks(cluster)
        cluster.jobs.clear()
        assert looks(cluster)[0].phase == "waiting"

    def test_the_api_server_says_no(self):
        cluster = Cluster()
        cluster.refuse = KubeError("forbidden", status=403)
        with pytest.raises(KubeError):
            judge(cluster, wanted())(cluster)

    def test_to_the_end_in_the_wait_loop(self):
        cluster = Cluster()
        looks = judge(cluster, wanted("a"), wanted("b"))
        cluster.pause = lambda seconds: (setattr(cluster, "now", cluster.now + min(seconds, 10)), [finish(cluster, name) for name in "ab"])
        waited = _wait.wait_for(cluster, looks, 100, cluster.clock)
        assert waited.seconds == 20.0
        assert [(row["name"], row["state"], row["seconds"], row["made"]) for row in looks.report()] == [
            ("a", "succeeded", 10.0, True),
            ("b", "succeeded", 10.0, True),
        ]


def finish(cluster, prefix, status=None):
    for name, job in cluster.jobs.items():
        if name.startswith(f"{prefix}-"):
            job["status"] = status or succeeded()


class TestStuck:
    def run(self, cluster, seconds, step=10.0):
        looks = judge(cluster, wanted())
        looks(cluster)
        began = cluster.now
        while cluster.now - began < seconds:
            cluster.now += step
            looks(cluster)
        return looks.courses["arc"].ended

    def name(self):
        return f"arc-{wanted().content}"

    @pytest.mark.parametrize(("seconds", "ended"), [(590, ""), (600, "stuck")])
    def test_no_progress(self, seconds, ended):
        cluster = Cluster(existing(wanted(), status=RUNNING))
        assert self.run(cluster, seconds) == ended

    def test_progress_is_whatever_changes(self):
        cluster = Cluster(existing(wanted(), status=RUNNING))
        looks = judge(cluster, wanted())
        for percent in range(20):
            cluster.jobs[self.name()]["status"] = {**RUNNING, "message": f"Requesting API:  {percent}%"}
            looks(cluster)
            cluster.now += 500
        assert looks.courses["arc"].ended == ""

    @pytest.mark.parametrize(("seconds", "ended"), [(110, ""), (120, "stuck")])
    def test_an_image_that_cannot_be_had(self, seconds, ended):
        cluster = Cluster(existing(wanted(), status={"state": "Scheduled"}))
        cluster.pods[self.name()] = pod(self.name(), {"reason": "ImagePullBackOff", "message": "no such image"})
        assert self.run(cluster, seconds) == ended

    @pytest.mark.parametrize(("seconds", "ended"), [(110, ""), (120, "stuck")])
    def test_an_operator_that_does_not_take_it(self, seconds, ended):
        assert self.run(Cluster(existing(wanted())), seconds) == ended

    def test_a_pod_that_waits_for_room_is_given_time(self):
        cluster = Cluster(existing(wanted(), status={"state": "Scheduled"}))
        cluster.pods[self.name()] = pod(self.name())
        assert self.run(cluster, 500) == ""

    @pytest.mark.parametrize(("passed", "again"), [(0, 120.0), (50, 70.0), (120, 480.0), (599.5, 1.0)])
    def test_when_to_look_again(self, passed, again):
        cluster = Cluster(existing(wanted(), status=RUNNING))
        looks = judge(cluster, wanted())
        looks(cluster)
        cluster.now += passed
        assert looks(cluster)[0].again == again


class TestPruning:
    def jobs(self, *rows):
        return [existing(wanted(limit=str(number)), status=status, created=f"2026-11-25T2{number}:00:00Z") for number, status in enumerate(rows)]

    @pytest.mark.parametrize(("keep", "gone"), [(1, [0, 1]), (2, [0]), (3, []), (0, [0, 1])])
    def test_the_newest_are_kept_and_the_present_one_counts(self, keep, gone):
        jobs = self.jobs(succeeded(), FAILED, succeeded())
        present = Course(jobs[2]["metadata"]["name"], True, 0.0)
        assert _lm_eval_run.outdated([wanted()], jobs, {"arc": present}, keep) == sorted(jobs[number]["metadata"]["name"] for number in gone)

    def test_the_present_one_stays_even_if_it_is_the_oldest(self):
        jobs = self.jobs(succeeded(), succeeded(), succeeded())
        present = Course(jobs[0]["metadata"]["name"], False, 0.0)
        assert jobs[0]["metadata"]["name"] not in _lm_eval_run.outdated([wanted()], jobs, {"arc": present}, 1)

    def test_what_runs_and_what_is_another_evaluation_stays(self):
        jobs = [*self.jobs(RUNNING), existing(wanted("other"), status=succeeded())]
        assert _lm_eval_run.outdated([wanted()], jobs, {}, 0) == []

    @pytest.mark.parametrize("status", [404, 403])
    def test_deleting_what_somebody_has_deleted_is_no_error(self, status):
        cluster = Cluster(*self.jobs(succeeded(), succeeded()))
        cluster.delete = lambda path, what, **query: (_ for _ in ()).throw(KubeError("no", status=status))
        looks = judge(cluster, wanted(limit="1"))
        if status == 404:
            looks.prune(0)
        else:
            with pytest.raises(KubeError):
                looks.prune(0)

    def test_deleting(self):
        jobs = self.jobs(succeeded(), succeeded())
        cluster = Cluster(*jobs)
        looks = judge(cluster, wanted(limit="1"))
        looks(cluster)
        assert looks.prune(1) == [jobs[0]["metadata"]["name"]] == looks.deleted
        assert list(cluster.jobs) == [jobs[1]["metadata"]["name"]]


HOST = (
    "requests.exceptions.ConnectionError: HTTPConnectionPool(host='nowhere.private-ai-demo.svc', port=80): Max retries exceeded"
    " with url: /v1/completions (Caused by NameResolutionError(\"Failed to resolve 'nowhere.private-ai-demo.svc'\"))"
)
TOKENIZER = (
    "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.\n"
    "Check your internet connection or see how to run the library in offline mode."
)
HUB = "ConnectionError: Couldn't reach 'allenai/ai2_arc' on the Hub (OfflineModeIsEnabled)"
TASK = '    raise ValueError(f"Tasks not found: {missing}")\nValueError: Tasks not found: lab_nothing'
NO_MODEL = "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: http://m/v1/completions"


class TestExplanation:
    """The logs are those of lm-evaluation-harness 0.4.13; what comes after the traceback is its bar of progress."""

    def explain(self, log="", message="exit status 1", state="failed", denied=(), pods=True, events=(), text=None):
        status = {**FAILED, "message": message}
        if text is not None:
            status = succeeded(text)
        found = _lm_eval.read(existing(wanted(), status=status))
        one = pod("x") if pods else None
        log = f"Traceback (most recent call last):\n{log}\nRequesting API:   0%|          | 0/1 [00:00<?, ?it/s]\n" if log else ""
        return _lm_eval_run.explain(state, Course("x", True, 0.0, "running"), found, Evidence(one, events, log), denied)

    @pytest.mark.parametrize(
        ("log", "said", "cure"),
        [
            (HOST, "exit status 1; requests.exceptions.ConnectionError: HTTPConnectionPool", "See that the model is ready, that its URL is right"),
            (TOKENIZER, "OSError: We couldn't connect to 'https://huggingface.co'", "Allow online access (role lmeval: lmeval_online), or give"),
            (HUB, "Couldn't reach 'allenai/ai2_arc' on the Hub", "Allow online access"),
            (TASK, "exit status 1; ValueError: Tasks not found: lab_nothing", "Correct the task's name"),
            (NO_MODEL, "404 Client Error", "Correct the path of the URL and the model's name"),
            ("KeyError: 'x'", "exit status 1; KeyError: 'x'", "Look at the log of its pod"),
        ],
    )
    def test_what_the_log_says(self, log, said, cure):
        text = self.explain(log)
        assert said in text and cure in text and "\n" not in text

    @pytest.mark.parametrize(
        ("message", "cure"),
        [
            ("exit status 137", "Raise the memory limit"),
            ("ErrImagePull", "Correct the images in the operator's ConfigMap"),
            ("pods is forbidden: exceeded quota", "Make room"),
            ('Pod "arc-1" not found', "Somebody has deleted it while it ran"),
            ("Unschedulable: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims", "See why the volume claim is not bound"),
            ("fetching external git tasks is not allowed when allowOnline is false", "Allow online access"),
        ],
    )
    def test_what_the_operator_says(self, message, cure):
        assert self.explain(message=message).startswith(f"{message}. {cure}")

    def test_what_the_operator_denies(self):
        text = self.explain(HUB, denied=["online access"])
        assert text.endswith(f"the operator does not permit online access. {_lm_eval_run._PERMIT}")
        assert "See that the model is ready" in self.explain(HOST, denied=["online access"])

    def test_the_last_error_of_a_chain_and_what_is_nearest_to_the_cause(self):
        text = self.explain(f"{HOST}\n\nDuring handling of the above exception, another exception occurred:\n\n{TASK}", message="ErrImagePull")
        assert "Max retries" not in text and "Correct the task's name" in text

    def test_results_that_cannot_be_read(self):
        text = self.explain(text=json.dumps({"results": {"t": {"acc,none": 1}}, "model_name": "other"}))
        assert text == (
            "its results are of model other, not of mistral-24b: another job writes to the same volume."
            " Give each job a volume of its own (outputs.pvcManaged)"
        )

    def test_a_stuck_pod_and_its_newest_warning(self):
        events = [
            {"type": "Warning", "reason": "FailedMount", "message": 'configmap "tasks" not found', "lastTimestamp": "2026-11-25T22:02:00Z"},
            {"type": "Warning", "reason": "Old", "message": "old", "lastTimestamp": "2026-11-25T22:01:00Z"},
            {"type": "Normal", "reason": "Newer", "message": "fine", "lastTimestamp": "2026-11-25T22:03:00Z"},
        ]
        text = self.explain(message="", state="stuck", events=events)
        assert text.startswith("makes no progress; ")
        assert text.endswith(
            'FailedMount: configmap "tasks" not found. Create the volume claim, ConfigMap or Secret that is named, or correct the name'
        )

    def test_no_pod_at_all(self):
        text = self.explain(message="", state="stuck", pods=False)
        assert text.startswith("makes no progress; it has no pod. See that TrustyAI's operator runs")

    def test_not_in_time(self):
        assert self.explain(message="Requesting API:  40%", state="unfinished").startswith("has not ended in time; Requesting API: 40%")
        assert _lm_eval_run.explain("not started", None, None, Evidence(), []).startswith("was not started in time")

    def test_a_long_text_is_cut(self):
        assert len(self.explain(f"ValueError: {'x' * 5000}")) < 600


class TestReport:
    def test_a_failed_one(self):
        cluster = Cluster()
        looks = judge(cluster, wanted(allowOnline=True))
        looks(cluster)
        (name,) = cluster.jobs
        finish(cluster, "arc", FAILED)
        cluster.pods[name] = pod(name, env=[("HF_HUB_OFFLINE", "1"), ("TRUST_REMOTE_CODE", "0")])
        cluster.logs[name] = HUB
        cluster.now += 12
        looks(cluster)
        (row,) = looks.report()
        assert (row["job"], row["state"], row["seconds"], row["denied"]) == (name, "failed", 12.0, ["online access"])
        assert "Permit it in the operator" in row["reason"]

    def test_a_good_one_that_was_denied_something_is_told(self):
        one = wanted(allowCodeExecution=True)
        cluster = Cluster(existing(one, status=succeeded()))
        cluster.pods[f"arc-{one.content}"] = pod("x", env=[("TRUST_REMOTE_CODE", "0")])
        looks = judge(cluster, one)
        looks(cluster)
        (row,) = looks.report()
        assert (row["state"], row["reason"], row["denied"]) == ("succeeded", "", ["code execution"])

    def test_of_a_pod_only_the_main_container_tells_what_was_denied(self):
        one = pod("x", env=[("HF_HUB_OFFLINE", "1")])
        assert _lm_eval_run.denials({"allowOnline": True}, one) == ["online access"]
        assert _lm_eval_run.denials({"allowOnline": False}, one) == []
        one["spec"]["containers"][0]["name"] = "sidecar"
        assert _lm_eval_run.denials({"allowOnline": True}, one) == []
        assert _lm_eval_run.denials({"allowOnline": True}, None) == []

    def test_one_that_never_began(self):
        cluster = Cluster()
        looks = judge(cluster, wanted("a"), wanted("b"))
        looks(cluster)
        assert [(row["state"], row["job"] is None, row["seconds"] is None) for row in looks.report()] == [
            ("unfinished", False, False),
            ("not started", True, True),
        ]

    def test_what_a_run_would_do(self):
        one = wanted("a")
        cluster = Cluster(existing(one, status=succeeded()))

        def made(**settings):
            return [(row["name"], row["made"], row["state"]) for row in judge(cluster, one, wanted("b"), **settings).foresee(cluster)]

        assert made() == [("a", False, "succeeded"), ("b", True, "not started")]
        assert made(rerun=True) == [("a", True, "not started"), ("b", True, "not started")]
        assert len(cluster.jobs) == 1
        assert [name.partition("-")[0] for name in cluster.dry] == ["b", "a", "b"]

    def test_what_a_run_would_end(self):
        old = wanted(limit="1")
        cluster = Cluster(existing(old, status=RUNNING))
        looks = judge(cluster, wanted())
        looks.foresee(cluster)
        assert looks.deleted == [f"arc-{old.content}"] and len(cluster.jobs) == 1

    def test_what_went_wrong(self):
        rows = [
            {"name": "a", "model": "full", "state": "succeeded", "reason": ""},
            {"name": "b", "model": "full", "state": "stuck", "reason": "makes no progress. Look"},
        ]
        assert _lm_eval_run.failures(rows) == "b (full): stuck: makes no progress. Look."
        assert _lm_eval_run.failures(rows[:1]) == ""


class TestWait:
    def test_not_in_time(self):
        cluster = Cluster()
        assert _lm_eval_run.wait(cluster, judge(cluster, wanted()), 30, clock=cluster.clock) is False
        assert cluster.now == 1030.0

    def test_at_their_end(self):
        one = wanted()
        cluster = Cluster(existing(one, status=succeeded()))
        assert _lm_eval_run.wait(cluster, judge(cluster, one), 0, clock=cluster.clock) is True

    @pytest.mark.parametrize("last", [True, False])
    def test_an_api_server_that_is_away_is_no_late_evaluation(self, last):
        cluster = Cluster()
        cluster.refuse = KubeError("away", status=503)
        cluster.outages.answered = True
        looks = judge(cluster, wanted())
        if last:
            with pytest.raises(KubeError, match="away"):
                _lm_eval_run.wait(cluster, looks, 30, last, cluster.clock)
        else:
            assert _lm_eval_run.wait(cluster, looks, 30, last, cluster.clock) is False


def test_progress():
    courses = {"a": Course("a-1", True, 0.0, "succeeded", ended="succeeded"), "b": Course("b-1", True, 0.0, "running: Requesting API:  40%")}
    evaluations = [wanted("a"), wanted("b"), wanted("c")]
    assert _lm_eval_run.progress(evaluations, courses, 61.4) == "1 of 3 evaluations have ended after 61 s; b running: Requesting API:  40%"
    assert _lm_eval_run.progress(evaluations[:1], courses, 5) == "1 of 1 evaluations have ended after 5 s"
