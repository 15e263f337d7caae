# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Run evaluations (LMEvalJobs of TrustyAI): which jobs to make, in which order, when one has ended, and why it went wrong.

TrustyAI does not run a finished job again when its spec changes, so the name of a job follows from its content: what is the same has been run
already, what is different is another job. Everything here goes by labels of the jobs (see :mod:`_lm_eval`), and nothing is kept anywhere else.

- :func:`choose` decides for one evaluation whether a job that is there will do.
- :class:`Judge` is the judge for :func:`_wait.wait_for`. It makes the next job of a model when one before it has ended. A job that failed or
  is stuck is at its end too, so that the others go on; how it ended is its :class:`Course`.
- :func:`explain` says in one line why, from job, pod, events and log. The log goes with the job, so this comes before anything is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval, _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Object = Mapping[str, t.Any]

API_VERSION = "trustyai.opendatahub.io/v1alpha1"
NOT_INSTALLED = (
    f"The cluster does not serve LMEvalJobs ({API_VERSION}): TrustyAI's operator is not installed. Install it (OpenShift AI brings it: trustyai is"
    " Managed in the DataScienceCluster)."
)
STUCK, UNFINISHED, NOT_STARTED = "stuck", "unfinished", "not started"

#: The name of a job is the evaluation's and ``-<hash>-<number>`` at most; it is also its pod's, and a label.
LONGEST_NAME = 48
#: Seconds that a pod may lack something that seldom comes by itself (an image), and a job its operator.
HOPELESS_SECONDS = 120.0
#: How much of a pod's log is read; the reason is in its last lines.
LOG_LINES = 120

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_REASON = re.compile(r"[\w.]*(?:Error|Exception|Exit|Interrupt)(?::| ).*")
#: What a pod is given when it may not: the variable that says so, by the field of the spec.
_DENIED = {"allowOnline": ("HF_HUB_OFFLINE", "1", "online access"), "allowCodeExecution": ("TRUST_REMOTE_CODE", "0", "code execution")}
_PERMIT = "Permit it in the operator (role trustyai: trustyai_lmeval_online, trustyai_lmeval_code_execution)"
_HUB = r"huggingface\.co|on the Hub|OfflineMode|not allowed when allowOnline"
#: What to do, by what is said; the first that fits.
_CURES = {
    _HUB: "Allow online access (role lmeval: lmeval_online), or give task, data and tokenizer locally",
    r"Tasks? not found|No tasks": "Correct the task's name; one of your own must be mounted with its YAML file",
    r"\b404\b|model_not_found": "Correct the path of the URL and the model's name, which must be the one under which the server has it",
    r"\b40[13]\b|[Uu]nauthorized": "Give a Secret with the key that the server asks for",
    r"Max retries|NameResolution|[Cc]onnection|Cannot connect|[Tt]imed? ?out": (
        "See that the model is ready, that its URL is right, and that no NetworkPolicy is in between"
    ),
    r"[Tt]okenizer": "Give a tokenizer that the evaluation's pod can read",
    r"status 137|OOMKilled": "Raise the memory limit of the evaluation's pod",
    r"ImagePull|InvalidImageName": "Correct the images in the operator's ConfigMap (lmes-pod-image, lmes-driver-image), or the right to pull them",
    r"same volume": "Give each job a volume of its own (outputs.pvcManaged)",
    r"unbound immediate PersistentVolumeClaim": "See why the volume claim is not bound: its StorageClass, and whether there is room",
    r"[Pp]ods? \S+ not found|has been deleted": "Somebody has deleted it while it ran: run the playbook again",
    r"FailedMount|MountVolume|persistentvolumeclaim": "Create the volume claim, ConfigMap or Secret that is named, or correct the name",
    r"quota|Insufficient|Unschedulable": "Make room (quota, nodes), or lower the resources of the evaluation's pod",
}


@dataclass(frozen=True)
class Wanted:
    """An evaluation as it shall be.

    ``name``: stays when settings change. ``model``: as people call it; of one model only so many jobs run at a time. ``spec``: of the
    LMEvalJob. ``annotations``: of the job, and so of its pod.
    """

    name: str
    model: str
    spec: Object
    annotations: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ModelMonitoringError for a name that no job can have."""
        if not _NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise ModelMonitoringError(
                f"evaluations: name {self.name!r} cannot be that of a job: give at most {LONGEST_NAME} small letters, digits and hyphens, as"
                " mistral-arc-easy."
            )

    @property
    def content(self) -> str:
        """The hash of all that makes a different evaluation."""
        text = json.dumps([self.model, self.spec, dict(self.annotations)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def manifest(self, namespace: str, number: int) -> dict[str, t.Any]:
        """The job; ``number`` counts those of the same content from 1."""
        return {
            "apiVersion": API_VERSION,
            "kind": "LMEvalJob",
            "metadata": {
                "name": f"{self.name}-{self.content}" + (f"-{number}" if number > 1 else ""),
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/part-of": "model-monitoring",
                    _lm_eval.EVALUATION_LABEL: self.name,
                    _lm_eval.CONTENT_LABEL: self.content,
                },
                "annotations": {**self.annotations, _lm_eval.MODEL_ANNOTATION: self.model},
            },
            "spec": dict(self.spec),
        }


@dataclass
class Course:
    """How the job of an evaluation goes. Times are seconds since 1970, of the machine on which the module runs.

    ``fingerprint``: what is seen of it, ``since``: from when on it has been the same. ``ended``: its state at the end, empty before.
    """

    job: str
    made: bool
    began: float
    fingerprint: str = ""
    since: float = 0.0
    ended: str = ""
    finished: float | None = None


@dataclass(frozen=True)
class Settings:
    """``parallel``: jobs of one model at a time. ``stuck_after``: seconds without progress after which a job is given up."""

    parallel: int = 1
    stuck_after: float = 600.0
    rerun: bool = False

    @classmethod
    def parse(cls, params: Mapping[str, t.Any]) -> Settings:
        """From the module's parameters; raises ModelMonitoringError."""
        for name in ("parallel", "keep", "stuck_after", "timeout"):
            if params[name] < 1:
                raise ModelMonitoringError(f"{name}: {params[name]} is too small: give 1 or more.")
        return cls(params["parallel"], params["stuck_after"], params["rerun"])


def parse(items: Sequence[Mapping[str, t.Any]]) -> list[Wanted]:
    """Evaluations from the module's parameters; raises ModelMonitoringError."""
    wanted = [Wanted(item["name"], item["model"], item["spec"], item.get("annotations") or {}) for item in items]
    for one in wanted:
        one.check()
        if sum(other.name == one.name for other in wanted) > 1:
            raise ModelMonitoringError(f"evaluations: {one.name} is there twice: give each a name of its own.")
    return wanted


def collection(namespace: str) -> str:
    """The path of a namespace's jobs."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/lmevaljobs"


def jobs(kube: Kube, namespace: str, labels: str) -> list[dict[str, t.Any]]:
    """The jobs with these labels now; raises KubeError."""
    return _wait.list_objects(kube, _wait.Selection(collection(namespace), labels=labels, absent=NOT_INSTALLED))[0]


def choose(wanted: Wanted, jobs: Sequence[Object], rerun: bool) -> tuple[str, int]:
    """The job of this content that will do, or an empty name and the number of the one to make. ``jobs``: of this evaluation.

    One that has failed will not do: what it failed of may be right now. One with other settings after it will not do either: the newest results
    are the ones that are shown. One that is not at its end will, also for a rerun.
    """
    same = [job for job in jobs if _label(job, _lm_eval.CONTENT_LABEL) == wanted.content]
    same.sort(key=lambda job: _number(job, wanted), reverse=True)
    if not same:
        return "", 1
    last = _lm_eval.read(same[0])
    newest = _lm_eval.newest(_lm_eval.read(job) for job in jobs)[0].job
    if last.state not in _lm_eval.ENDED or (last.state == _lm_eval.SUCCEEDED and last.job == newest and not rerun):
        return last.job, 0
    return "", _number(same[0], wanted) + 1


def superseded(wanted: Sequence[Wanted], jobs: Sequence[Object]) -> list[str]:
    """Jobs that still run, or wait to, for what is not wanted any more: of an evaluation whose content has changed."""
    contents = {one.name: one.content for one in wanted}
    return sorted(
        job["metadata"]["name"]
        for job in jobs
        if contents.get(_label(job, _lm_eval.EVALUATION_LABEL), "") not in ("", _label(job, _lm_eval.CONTENT_LABEL))
        and _lm_eval.read(job).state not in _lm_eval.ENDED
    )


def outdated(wanted: Sequence[Wanted], jobs: Sequence[Object], courses: Mapping[str, Course], keep: int) -> list[str]:
    """Jobs at their end that are more than the ``keep`` newest of their evaluation; never the present one."""
    found: list[str] = []
    for one in wanted:
        present = courses[one.name].job if one.name in courses else ""
        mine = {job["metadata"]["name"]: _lm_eval.read(job) for job in jobs if _label(job, _lm_eval.EVALUATION_LABEL) == one.name}
        others = _lm_eval.newest(item for name, item in mine.items() if name != present and item.state in _lm_eval.ENDED)
        found += [item.job for item in others[max(0, keep - (present in mine)) :]]
    return sorted(found)


class Judge:
    """The judge over all evaluations: makes their jobs in turn, and sees when one has ended.

    ``courses``: by the evaluation's name. ``deleted``: names of jobs.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        wanted: Sequence[Wanted],
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._collection = collection(namespace)
        self._wanted = wanted
        self._settings = settings
        self._clock = clock
        self.courses: dict[str, Course] = {}
        self.deleted: list[str] = []

    def jobs(self, view: _wait.Viewer) -> list[dict[str, t.Any]]:
        """All jobs of evaluations, whosever."""
        return view.items(_wait.Selection(self._collection, labels=_lm_eval.EVALUATION_LABEL, absent=NOT_INSTALLED))

    def pods(self, view: _wait.Viewer) -> dict[str, Object]:
        """Their pods by name, which is the job's. Not being allowed to read pods is no error."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return {pod["metadata"]["name"]: pod for pod in view.items(_wait.Selection(path, labels=_lm_eval.EVALUATION_LABEL, optional=True))}

    def foresee(self, view: _wait.Viewer) -> list[dict[str, t.Any]]:
        """What a run would do, as :meth:`report` tells it; each job that would be made is tried by dry run. Raises KubeError."""
        jobs = self.jobs(view)
        self.deleted = superseded(self._wanted, jobs)
        rows = []
        for one in self._wanted:
            name, number = choose(one, _mine(one, jobs), self._settings.rerun)
            made = not name
            name = name or self._create(one, number, dryRun="All")
            states = [_lm_eval.read(job).state for job in jobs if job["metadata"]["name"] == name]
            rows.append(_row(one, name, made, states[0] if states else NOT_STARTED))
        return rows

    def __call__(self, view: _wait.Viewer) -> list[_wait.State]:
        """All evaluations' states; raises KubeError."""
        jobs = {job["metadata"]["name"]: job for job in self.jobs(view)}
        pods = self.pods(view)
        if not self.courses:
            self._delete(superseded(self._wanted, list(jobs.values())))
        for one in self._wanted:
            if one.name in self.courses:
                self._observe(self.courses[one.name], jobs.get(self.courses[one.name].job), pods)
        self._adopt(jobs, pods)
        self._make(list(jobs.values()))
        return [self._state(one) for one in self._wanted]

    def _adopt(self, jobs: Mapping[str, Object], pods: Mapping[str, Object]) -> None:
        """Go on with jobs that are there already."""
        for one in self._wanted:
            if one.name not in self.courses:
                found, _number = choose(one, _mine(one, list(jobs.values())), self._settings.rerun)
                if found:
                    self.courses[one.name] = Course(found, made=False, began=self._clock(), since=self._clock())
                    self._observe(self.courses[one.name], jobs[found], pods)

    def _make(self, jobs: Sequence[Object]) -> None:
        """Make as many jobs as their models have room for."""
        busy: dict[str, int] = {}
        for one in self._wanted:
            if one.name in self.courses and not self.courses[one.name].ended:
                busy[one.model] = busy.get(one.model, 0) + 1
        for one in self._wanted:
            if one.name not in self.courses and busy.get(one.model, 0) < self._settings.parallel:
                number = choose(one, _mine(one, jobs), self._settings.rerun)[1]
                name = self._create(one, number)
                self.courses[one.name] = Course(name, made=True, began=self._clock(), since=self._clock())
                busy[one.model] = busy.get(one.model, 0) + 1

    def _create(self, one: Wanted, number: int, **query: str) -> str:
        job = one.manifest(self._namespace, number)
        name = job["metadata"]["name"]
        self._kube.create(self._collection, job, f"create LMEvalJob {self._namespace}/{name}", fieldValidation="Strict", **query)
        return name

    def _observe(self, course: Course, job: Object | None, pods: Mapping[str, Object]) -> None:
        """Take down how far a job is, unless it has ended."""
        if course.ended:
            return
        now = self._clock()
        if job is None:
            if course.fingerprint:  # it was there
                course.ended, course.finished, course.fingerprint = _lm_eval.FAILED, now, "the job has been deleted"
            return
        found = _lm_eval.read(job)
        pod = pods.get(course.job)
        words = found.message or (_readiness.why_not_running(pod) if pod else "")
        fingerprint = f"{found.state}{f': {words}' if words else ''}"
        if fingerprint != course.fingerprint:
            course.fingerprint, course.since = fingerprint, now
        if found.state in _lm_eval.ENDED:
            course.ended, course.finished = found.state, now
        elif now - course.since >= self._patience(job, pod):
            course.ended, course.finished = STUCK, now

    def _patience(self, job: Object, pod: Object | None) -> float:
        """Seconds that this may last."""
        hopeless = not job.get("status") if pod is None else _readiness.is_stuck(pod)
        return min(HOPELESS_SECONDS, self._settings.stuck_after) if hopeless else self._settings.stuck_after

    def _state(self, one: Wanted) -> _wait.State:
        course = self.courses.get(one.name)
        if course is None:
            return _wait.State(one.name, _wait.WAITING, f"waits for the other evaluations of {one.model}")
        if course.ended:
            return _wait.State(one.name, _wait.READY, course.fingerprint)
        # Nothing changes when nothing changes: look again when patience may be at its end.
        left = min(HOPELESS_SECONDS, self._settings.stuck_after) - (self._clock() - course.since)
        again = left if left > 0 else self._settings.stuck_after - (self._clock() - course.since)
        return _wait.State(one.name, _wait.WAITING, course.fingerprint or "is new", again=max(1.0, again))

    def prune(self, keep: int) -> list[str]:
        """Delete what :func:`outdated` finds; returns the names. Raises KubeError."""
        found = jobs(self._kube, self._namespace, _lm_eval.EVALUATION_LABEL)
        return self._delete(outdated(self._wanted, found, self.courses, keep))

    def _delete(self, names: Sequence[str]) -> list[str]:
        for name in names:
            try:
                self._kube.delete(f"{self._collection}/{name}", f"delete LMEvalJob {self._namespace}/{name}", propagationPolicy="Background")
            except KubeError as error:
                if error.status != 404:
                    raise
        self.deleted += names
        return list(names)

    def report(self) -> list[dict[str, t.Any]]:
        """How each evaluation ended (or not), with the reason where it is not as it should be. Raises KubeError."""
        by_name = {job["metadata"]["name"]: job for job in jobs(self._kube, self._namespace, _lm_eval.EVALUATION_LABEL)}
        rows = []
        for one in self._wanted:
            course = self.courses.get(one.name)
            job = by_name.get(course.job) if course else None
            state = NOT_STARTED if course is None else course.ended or UNFINISHED
            evidence = self._evidence(course.job, state) if course else Evidence()
            denied = denials(one.spec, evidence.pod)
            reason = "" if state == _lm_eval.SUCCEEDED else explain(state, course, _lm_eval.read(job) if job else None, evidence, denied)
            seconds = (course.finished or self._clock()) - course.began if course else None
            rows.append(_row(one, course.job if course else None, bool(course and course.made), state, seconds, reason, denied))
        return rows

    def _evidence(self, name: str, state: str) -> Evidence:
        """What is known of a job besides itself. What may not be read, or is gone, is left out."""
        place = f"/api/v1/namespaces/{self._namespace}"
        pod: Object | None = None
        events: Sequence[Object] = ()
        log = ""
        with contextlib.suppress(KubeError):
            pod = self._kube.get(f"{place}/pods/{name}", "read the pod")
        if state != _lm_eval.SUCCEEDED:
            with contextlib.suppress(KubeError):
                events = self._kube.get(f"{place}/events", "list events", fieldSelector=f"involvedObject.name={name}").get("items") or []
            if pod is not None:
                with contextlib.suppress(KubeError):
                    log = self._kube.text(f"{place}/pods/{name}/log", "read the log", container="main", tailLines=str(LOG_LINES))
        return Evidence(pod, events, log)


@dataclass(frozen=True)
class Evidence:
    """What tells of a job besides itself."""

    pod: Object | None = None
    events: Sequence[Object] = ()
    log: str = ""


def explain(state: str, course: Course | None, found: _lm_eval.Evaluation | None, evidence: Evidence, denied: Sequence[str]) -> str:
    """Why an evaluation did not end well, and what to do, in one line."""
    if course is None:
        return "was not started in time. Raise the time-out, or allow more jobs of a model at a time"
    said = [course.fingerprint if found is None else found.error or found.message]
    if state in (STUCK, UNFINISHED):
        said.insert(0, "makes no progress" if state == STUCK else "has not ended in time")
        said.append(_readiness.why_not_running(evidence.pod) if evidence.pod else "it has no pod")
    else:
        said.append(reason_of(evidence.log))
    if state == STUCK or evidence.pod is None or not evidence.log:
        said.append(warning_of(evidence.events))
    words = list(dict.fromkeys(_short(part) for part in said if part))
    cure = cure_of(state, words, denied, evidence)
    if denied:
        words.append(f"the operator does not permit {' and '.join(denied)}")
    return f"{'; '.join(words)}. {cure}"


def _short(text: str, most: int = 400) -> str:
    text = " ".join(text.split()).rstrip(". ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def cure_of(state: str, words: Sequence[str], denied: Sequence[str], evidence: Evidence) -> str:
    """What to do about it."""
    if state in (STUCK, UNFINISHED) and evidence.pod is None:
        return "See that TrustyAI's operator runs, what its log says of this job, and that the volume claim for its results exists"
    for said in reversed(words):  # the last is the nearest to the cause
        for pattern, cure in _CURES.items():
            if re.search(pattern, said):
                return _PERMIT if denied and pattern == _HUB else cure
    return "Look at the log of its pod" if evidence.pod else "Look at the log of TrustyAI's operator"


def reason_of(log: str) -> str:
    """The last error that Python has written into a log, empty when there is none."""
    lines = [line.strip() for line in log.splitlines()]
    return next((line for line in reversed(lines) if _REASON.fullmatch(line)), "")


def warning_of(events: Sequence[Object]) -> str:
    """The newest warning, empty when there is none."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    warnings.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return f"{warnings[-1].get('reason')}: {warnings[-1].get('message')}" if warnings else ""


def denials(spec: Object, pod: Object | None) -> list[str]:
    """What a job asks for and its operator has not given to its pod: such a job runs all the same, without it."""
    containers = ((pod or {}).get("spec") or {}).get("containers") or []
    variables = [variable for container in containers if container["name"] == "main" for variable in container.get("env") or []]
    given = {variable["name"]: variable.get("value") for variable in variables}
    return [words for asked, (name, value, words) in _DENIED.items() if spec.get(asked) and given.get(name) == value]


def progress(wanted: Sequence[Wanted], courses: Mapping[str, Course], seconds: float) -> str:
    """How far all of them are, in one line."""
    ended = [one for one in wanted if one.name in courses and courses[one.name].ended]
    running = [one for one in wanted if one.name in courses and not courses[one.name].ended]
    words = [f"{one.name} {courses[one.name].fingerprint or 'is new'}" for one in running]
    return f"{len(ended)} of {len(wanted)} evaluations have ended after {seconds:.0f} s" + (f"; {'; '.join(words)}" if words else "")


def remember(judge: Judge, began: float) -> dict[str, t.Any]:
    """What a later call needs to go on, as plain data."""
    return {"courses": {name: asdict(course) for name, course in judge.courses.items()}, "deleted": judge.deleted, "began": began}


def recall(judge: Judge, memory: Mapping[str, t.Any], now: float) -> float:
    """Let a judge go on where :func:`remember` was called; returns when the first one began."""
    judge.courses.update({name: Course(**course) for name, course in (memory.get("courses") or {}).items()})
    judge.deleted += memory.get("deleted") or []
    return memory.get("began", now)


def wait(view: _wait.Viewer, judge: Judge, seconds: float, last: bool = True, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait until all evaluations have ended, at most so many seconds; returns whether they have.

    Raises KubeError; for an API server that is away only if this is the ``last`` time that it is asked.
    """
    try:
        _wait.wait_for(view, judge, seconds, clock)
    except _wait.WaitError as error:
        cause = error.__cause__
        if last and isinstance(cause, KubeError):
            raise KubeError(str(cause), cause.status) from error
        return False
    return True


def failures(rows: Sequence[Mapping[str, t.Any]]) -> str:
    """What went wrong, in one line; empty when nothing did."""
    return " ".join(f"{row['name']} ({row['model']}): {row['state']}: {row['reason']}." for row in rows if row["state"] != _lm_eval.SUCCEEDED)


def _row(
    wanted: Wanted, job: str | None, made: bool, state: str, seconds: float | None = None, reason: str = "", denied: Sequence[str] = ()
) -> dict[str, t.Any]:
    """An evaluation as the module returns it."""
    return {
        "name": wanted.name,
        "model": wanted.model,
        "job": job,
        "made": made,
        "state": state,
        "seconds": None if seconds is None else round(seconds, 3),
        "reason": reason,
        "denied": list(denied),
    }


def _mine(wanted: Wanted, jobs: Sequence[Object]) -> list[Object]:
    return [job for job in jobs if _label(job, _lm_eval.EVALUATION_LABEL) == wanted.name]


def _label(job: Object, name: str) -> str:
    return (job["metadata"].get("labels") or {}).get(name, "")


def _number(job: Object, wanted: Wanted) -> int:
    """Which one of its content a job is."""
    last = job["metadata"]["name"].removeprefix(f"{wanted.name}-{wanted.content}").removeprefix("-")
    return int(last) if last.isdigit() else 1
