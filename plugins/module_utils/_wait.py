# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The wait loop: the only one in the collection.

Three parts, each usable (and tested) without the others:

- A *judge* looks at objects and says for every target how far it is (:class:`State`). Judges are written where the
  knowledge is (`_crd`, `_olm`, `_readiness`).
- A :class:`View` is what a judge looks at. Whatever it asks for is listed once and from then on followed by a watch, one
  thread per selection; so a judge simply reads on from object to object (Subscription, its InstallPlan, its CSV), and what
  is ready at the first look costs one request and no watch.
- :func:`wait_for` asks the judge again after every change until all targets are ready, one of them cannot become ready, or
  the time is over.

Time is monotonic seconds from a clock that the caller can replace. Nothing here sleeps to a schedule: between two looks the
loop blocks on the queue that the watches fill.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Object = dict[str, t.Any]
    Clock = Callable[[], float]

READY, WAITING, FAILING = "ready", "waiting", "failing"

#: Seconds after which a watch is renewed. Short, so that a connection whose other end is gone is found out soon.
WATCH_SECONDS = 30
#: Seconds for a first answer of the API server: after that it is not restarting, it is the wrong address.
FIRST_CONTACT_SECONDS = 10.0
#: Seconds during which a refusal (401, 403, 404) is borne where the same request has worked before, or the connection was
#: lost just before: an API server that has just started refuses until its caches are filled.
REFUSAL_SECONDS = 15.0
#: Pauses between attempts, in seconds: doubled from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: The longest Retry-After that is honoured, in seconds.
LONGEST_RETRY_AFTER = 5.0


@dataclass(frozen=True)
class State:
    """How far one target is.

    ``target`` names it (``Subscription demo/tempo``); ``text`` is its last state in words, ``cure`` what a user can do.
    A FAILING target stops the wait after it has been failing for the same ``cause`` without interruption for ``grace``
    seconds: what is wrong for a moment while things start is not yet a failure. ``again`` asks for another look after so many
    seconds even if nothing changes (for truths that no watch tells). ``facts`` go into the module's result.
    """

    target: str
    phase: str
    text: str
    cure: str = ""
    cause: str = ""
    grace: float = 0.0
    again: float | None = None
    facts: Mapping[str, t.Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Objects to look at: a collection's path, narrowed by a field or label selector.

    With ``optional``, a refusal (403, 404) reads as "nothing there": for what only improves a message. ``absent`` is what to
    say when the collection itself does not exist (404).
    """

    path: str
    fields: str = ""
    labels: str = ""
    optional: bool = False
    absent: str = ""

    @classmethod
    def named(cls, path: str, name: str, **kwargs: t.Any) -> Selection:
        """The one object of that name."""
        return cls(path, fields=f"metadata.name={name}", **kwargs)

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of list and watch."""
        query = {"fieldSelector": self.fields, "labelSelector": self.labels}
        return {name: value for name, value in query.items() if value}

    def __str__(self) -> str:
        """In words: ``subscriptions tempo in namespace demo``."""
        *before, collection = self.path.split("/")
        place = f"in namespace {before[-1]}" if before[-2:-1] == ["namespaces"] else ""
        return " ".join(filter(None, (collection, self.fields.replace("metadata.name=", ""), self.labels, place)))


@dataclass(frozen=True)
class Waited:
    """A wait that ended well: the last states, the seconds of the whole, and the seconds until each target was ready."""

    states: Sequence[State]
    seconds: float
    ready_after: Mapping[str, float]


class WaitError(ModelMonitoringError):
    """A target cannot become ready, or did not in time. The attributes are those of :class:`Waited`."""

    def __init__(self, message: str, states: Sequence[State], seconds: float, ready_after: Mapping[str, float]) -> None:
        super().__init__(message)
        self.states = states
        self.seconds = seconds
        self.ready_after = ready_after


class Viewer(t.Protocol):
    """What :func:`wait_for` and the judges need of a view."""

    def items(self, selection: Selection) -> list[Object]:
        """The selected objects as they are known now; raises KubeError."""

    def pause(self, seconds: float) -> None:
        """Block until something looked at may have changed, at most ``seconds``; raises KubeError."""

    @property
    def trouble(self) -> str:
        """Why what is known may be old, empty when it is not."""

    @property
    def outages(self) -> Outages:
        """The memory of lost connections."""


def first(objects: Sequence[Object]) -> Object | None:
    """The only object of a :meth:`Selection.named`, None when there is none."""
    return objects[0] if objects else None


def wait_for(
    view: Viewer,
    judge: Callable[[Viewer], Sequence[State]],
    timeout: float,
    clock: Clock = time.monotonic,
    diagnose: Callable[[Viewer, Sequence[State]], Sequence[State]] | None = None,
) -> Waited:
    """Wait until the judge finds all targets ready.

    Raises WaitError when a target cannot become ready or the ``timeout`` (seconds) is over, KubeError when the API server
    refuses or never answers. ``diagnose`` may add to the last states' texts what only matters then (why a pod does not run).
    """
    started = clock()
    patience = Patience(clock, view.outages)
    failing: dict[str, tuple[str, float]] = {}
    ready_after: dict[str, float] = {}
    states: Sequence[State] = []
    while True:
        try:
            states = judge(view)
            patience.answered()
            pauses = [state.again for state in states if state.again is not None]
        except KubeError as error:
            pauses = [patience.endure(error)]
            if clock() - started + pauses[0] > timeout:
                raise WaitError(_timed_out(states, timeout, str(error)), states, clock() - started, ready_after) from error
        else:
            now = clock()
            for state in states:
                _note(state, now, failing)
                if state.phase == READY:
                    ready_after.setdefault(state.target, now - started)
                else:
                    ready_after.pop(state.target, None)
            lost = [state for state in states if state.phase == FAILING and now - failing[state.target][1] >= state.grace]
            if lost:
                raise WaitError(" ".join(_sentence(state) for state in lost), states, now - started, ready_after)
            if all(state.phase == READY for state in states):
                return Waited(states, now - started, ready_after)
            pauses += [failing[state.target][1] + state.grace - now for state in states if state.phase == FAILING]
        left = started + timeout - clock()
        if left <= 0:
            if diagnose:
                with contextlib.suppress(KubeError):
                    states = diagnose(view, states)
            raise WaitError(_timed_out(states, timeout, view.trouble), states, clock() - started, ready_after)
        view.pause(max(0.0, min([left, *pauses])))


class Outages:
    """Whether the API server ever answered, and when the connection was last lost; shared by all threads of a view."""

    def __init__(self) -> None:
        self.answered = False
        self.last: float | None = None

    def since(self, now: float) -> float:
        """Seconds since the last outage; infinite when there was none."""
        return float("inf") if self.last is None else now - self.last


class Patience:
    """Decides whether an error of the API server is worth another try, and after how long.

    ``worked`` tells that this very request has worked before, so that a refusal is likely to pass.
    """

    def __init__(self, clock: Clock, outages: Outages, worked: bool = False) -> None:
        self._clock = clock
        self._outages = outages
        self._worked = worked
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def answered(self) -> None:
        """The request worked."""
        self._outages.answered = True
        self._since = None
        self._pause = FIRST_PAUSE

    def endure(self, error: KubeError) -> float:
        """Seconds to pause before the next attempt; raises the error when another attempt is of no use."""
        now = self._clock()
        since = self._since = now if self._since is None else self._since
        if error.permanent:
            raise error
        if error.status is None or error.status >= 500:
            self._outages.last = now
            if not (self._worked or self._outages.answered) and now - since >= FIRST_CONTACT_SECONDS:
                raise error
        elif error.status not in (408, 409, 410, 429):
            refused_for = min(now - since, self._outages.since(now))
            if refused_for >= REFUSAL_SECONDS or not (self._worked or self._outages.since(now) < REFUSAL_SECONDS):
                raise error
        pause, self._pause = self._pause, min(2 * self._pause, LAST_PAUSE)
        return max(pause, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))


@dataclass(frozen=True)
class Listed:
    """A follower's message: these are all the selected objects now."""

    selection: Selection
    objects: Sequence[Object]


@dataclass(frozen=True)
class Changed:
    """A follower's message: this object was added, changed or (``gone``) deleted."""

    selection: Selection
    object: Object
    gone: bool


@dataclass(frozen=True)
class Troubled:
    """A follower's message: the watch is interrupted, for this reason (empty: it is well again)."""

    selection: Selection
    reason: str


@dataclass(frozen=True)
class Refused:
    """A follower's message: the API server will not let us watch this any more."""

    selection: Selection
    error: KubeError


def list_objects(kube: Kube, selection: Selection) -> tuple[list[Object], str]:
    """The selected objects and the resourceVersion to watch from; raises KubeError."""
    try:
        answer = kube.get(selection.path, f"list {selection}", **selection.query)
    except KubeError as error:
        if error.status == 404 and selection.absent:
            raise KubeError(selection.absent, status=404) from error
        raise
    return answer.get("items") or [], (answer.get("metadata") or {}).get("resourceVersion", "")


def follow(
    kube: Kube,
    selection: Selection,
    version: str,
    put: Callable[[Listed | Changed | Troubled | Refused], None],
    patience: Patience,
    stopped: threading.Event,
) -> None:
    """Report every change of the selected objects since ``version`` until ``stopped``: the body of one thread.

    A watch that ends is continued where it ended. After any error (expired resourceVersion, closed connection, API server
    down) the objects are listed again, which is right whatever happened meanwhile.
    """
    while not stopped.is_set():
        try:
            if not version:
                objects, version = list_objects(kube, selection)
                patience.answered()
                put(Listed(selection, objects))
                continue
            for event in kube.watch(
                selection.path,
                f"watch {selection}",
                WATCH_SECONDS,
                resourceVersion=version,
                allowWatchBookmarks="true",
                **selection.query,
            ):
                changed, what = event["object"], event["type"]
                if what == "ERROR":
                    raise KubeError(f"Cannot watch {selection}: {changed.get('message') or changed}.", status=changed.get("code"))
                version = changed["metadata"]["resourceVersion"]
                patience.answered()
                if what != "BOOKMARK":
                    put(Changed(selection, changed, gone=what == "DELETED"))
                if stopped.is_set():
                    return
            stopped.wait(FIRST_PAUSE)  # a proxy that ends every watch at once must not make this a busy loop
        except KubeError as error:
            version = ""
            try:
                seconds = patience.endure(error)
            except KubeError as final:
                put(Refused(selection, final))
                return
            if error.status != 410:
                put(Troubled(selection, str(error)))
            stopped.wait(seconds)


class View:
    """The live view of a cluster for one wait: a context manager that ends its watches on exit."""

    def __init__(self, kube: Kube, clock: Clock = time.monotonic) -> None:
        self.kube = kube
        self._clock = clock
        self._queue: queue.SimpleQueue[Listed | Changed | Troubled | Refused] = queue.SimpleQueue()
        self._objects: dict[Selection, dict[tuple[str, str], Object]] = {}
        self._unfollowed: dict[Selection, str] = {}
        self._troubles: dict[Selection, str] = {}
        self.outages = Outages()
        self._stopped = threading.Event()

    def __enter__(self) -> View:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()

    @property
    def trouble(self) -> str:
        """Why what is known may be old, empty when it is not."""
        return next(iter(self._troubles.values()), "")

    def items(self, selection: Selection) -> list[Object]:
        """The selected objects as they are known now; asks the API server on the first call only. Raises KubeError."""
        if selection not in self._objects:
            try:
                objects, version = list_objects(self.kube, selection)
            except KubeError as error:
                if not (selection.optional and error.status in (403, 404)):
                    raise
                objects = []
            else:
                self._unfollowed[selection] = version
            self._replace(selection, objects)
        return list(self._objects[selection].values())

    def pause(self, seconds: float) -> None:
        """Block until something looked at may have changed, at most ``seconds``. Raises KubeError when a watch is refused."""
        while self._unfollowed:
            self._start(*self._unfollowed.popitem())
        with contextlib.suppress(queue.Empty):
            self._apply(self._queue.get(timeout=seconds))
            while True:
                self._apply(self._queue.get_nowait())

    def _start(self, selection: Selection, version: str) -> None:
        patience = Patience(self._clock, self.outages, worked=True)
        threading.Thread(
            target=follow,
            args=(self.kube, selection, version, self._queue.put, patience, self._stopped),
            name=f"watch {selection}",
            daemon=True,  # blocked in a read most of the time; ends with the process, or with its watch
        ).start()

    def _apply(self, message: Listed | Changed | Troubled | Refused) -> None:
        if isinstance(message, Refused):
            if not message.selection.optional:
                raise message.error
            message = Listed(message.selection, [])
        if isinstance(message, Troubled):
            self._troubles[message.selection] = message.reason
            return
        self._troubles.pop(message.selection, None)
        if isinstance(message, Listed):
            self._replace(message.selection, message.objects)
        elif message.gone:
            self._objects[message.selection].pop(_key(message.object), None)
        else:
            self._objects[message.selection][_key(message.object)] = message.object

    def _replace(self, selection: Selection, objects: Sequence[Object]) -> None:
        self._objects[selection] = {_key(item): item for item in objects}


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _note(state: State, now: float, failing: dict[str, tuple[str, float]]) -> None:
    """Remember since when a target has been failing for its present cause."""
    cause = state.cause or state.text
    if state.phase != FAILING:
        failing.pop(state.target, None)
    elif failing.get(state.target, ("", 0.0))[0] != cause or state.target not in failing:
        failing[state.target] = (cause, now)


def _sentence(state: State) -> str:
    return " ".join(f"{part.rstrip('. ')}." for part in (f"{state.target}: {state.text}", state.cure) if part)


def _timed_out(states: Sequence[State], timeout: float, trouble: str) -> str:
    late = [state for state in states if state.phase != READY]
    parts = [f"Not ready after {timeout:g} s:"]
    parts += [_sentence(state) for state in late]
    if trouble:
        parts.append(f"{'What is known may be old: ' if late else ''}{trouble}")
    return " ".join(parts)


def with_text(state: State, more: str) -> State:
    """The state with more words at the end of its text."""
    return replace(state, text=f"{state.text.rstrip('. ')}; {more}") if more else state
