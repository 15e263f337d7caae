# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The wait loop, the watches that feed it, and what it puts up with. Fake clock, no network, no sleeping."""

from __future__ import annotations

import queue
import threading

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

WORKLOADS = _wait.Selection("/apis/apps/v1/namespaces/demo/deployments")


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (WORKLOADS, "deployments in namespace demo"),
        (_wait.Selection.named("/api/v1/namespaces/demo/pods", "a"), "pods a in namespace demo"),
        (_wait.Selection("/api/v1/pods", labels="a=b"), "pods a=b"),
        (_wait.Selection.named("/api/v1/namespaces", "demo"), "namespaces demo"),
    ],
)
def test_a_selection_in_words(selection, words):
    assert str(selection) == words


class FakeClock:
    """Seconds that pass only when somebody waits."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class FakeView:
    """A view whose objects change at set times; waiting moves the clock to the next change."""

    def __init__(self, clock, changes=()):
        self.clock = clock
        self.started = clock()
        self.changes = sorted(changes)
        self.now = {}
        self.trouble = ""
        self.outages = _wait.Outages()
        self.pauses = []
        self._apply()

    def _apply(self):
        while self.changes and self.changes[0][0] <= self.clock() - self.started:
            self.now.update(self.changes.pop(0)[1])

    def items(self, selection):
        return []

    def pause(self, seconds):
        self.pauses.append(seconds)
        assert len(self.pauses) < 1000, "the loop turns without time passing"
        until = self.clock() + seconds
        if self.changes:
            until = min(until, self.started + self.changes[0][0])
        self.clock.now = max(until, self.clock.now)
        self._apply()


def judge(view):
    """Targets by name; what they are is written down in the view."""
    if isinstance(view.now.get("error"), Exception):
        raise view.now["error"]
    return [state(name, *what) for name, what in view.now.items() if name != "error"]


def state(name, phase, cause="", grace=0.0, again=None):
    return _wait.State(name, phase, f"is {phase}", f"cure of {name}", cause=cause, grace=grace, again=again)


def wait(changes, timeout=100, **kwargs):
    clock = FakeClock()
    view = FakeView(clock, changes)
    return _wait.wait_for(view, judge, timeout, clock, **kwargs), view


def failed(changes, timeout=100, error=_wait.WaitError, **kwargs):
    clock = FakeClock()
    view = FakeView(clock, changes)
    with pytest.raises(error) as raised:
        _wait.wait_for(view, judge, timeout, clock, **kwargs)
    return raised.value, clock() - view.started, view


READY, WAITING = (_wait.READY,), (_wait.WAITING,)


class TestLoop:
    def test_ready_at_the_first_look(self):
        waited, view = wait([(0, {"a": READY, "b": READY})])
        assert (waited.seconds, dict(waited.ready_after), view.pauses) == (0.0, {"a": 0.0, "b": 0.0}, [])

    def test_each_target_has_its_own_time(self):
        waited, _view = wait([(0, {"a": WAITING, "b": WAITING}), (3, {"a": READY}), (7, {"b": READY})])
        assert (waited.seconds, dict(waited.ready_after)) == (7.0, {"a": 3.0, "b": 7.0})

    def test_all_must_be_ready_at_the_same_time(self):
        waited, _view = wait([(0, {"a": READY, "b": WAITING}), (2, {"a": WAITING}), (3, {"b": READY}), (5, {"a": READY})])
        assert (waited.seconds, dict(waited.ready_after)) == (5.0, {"a": 5.0, "b": 3.0})

    def test_blocks_until_the_deadline_and_not_in_steps(self):
        _error, seconds, view = failed([(0, {"a": WAITING})], timeout=100)
        assert (seconds, view.pauses) == (100.0, [100.0])

    def test_looks_again_when_a_target_asks_for_it(self):
        _waited, view = wait([(0, {"a": (_wait.WAITING, "", 0.0, 0.5)}), (2, {"a": READY})])
        assert view.pauses == [0.5, 0.5, 0.5, 0.5]

    def test_time_out_tells_the_last_state_of_what_is_late_and_only_of_that(self):
        error, seconds, _view = failed([(0, {"early": READY, "late": WAITING, "later": WAITING})], timeout=30)
        assert str(error) == "Not ready after 30 s: late: is waiting. cure of late. later: is waiting. cure of later."
        assert (seconds, error.seconds, dict(error.ready_after)) == (30.0, 30.0, {"early": 0.0})
        assert [item.target for item in error.states] == ["early", "late", "later"]

    def test_time_out_of_zero_looks_once(self):
        assert wait([(0, {"a": READY})], timeout=0)[0].seconds == 0.0
        assert failed([(0, {"a": WAITING})], timeout=0)[2].pauses == []

    def test_time_out_tells_that_the_watch_was_interrupted(self):
        clock = FakeClock()
        view = FakeView(clock, [(0, {"a": WAITING})])
        view.trouble = "The API server does not answer."
        with pytest.raises(_wait.WaitError, match="What is known may be old: The API server does not answer"):
            _wait.wait_for(view, judge, 5, clock)

    def test_diagnosis_is_made_on_time_out_only(self):
        def diagnose(_view, states):
            return [_wait.with_text(item, "its pod crashes") for item in states]

        error, _seconds, _view = failed([(0, {"a": WAITING})], timeout=5, diagnose=diagnose)
        assert "a: is waiting; its pod crashes. cure of a." in str(error)
        assert wait([(0, {"a": READY})], diagnose=pytest.fail)[0].seconds == 0.0

    def test_a_diagnosis_that_is_not_allowed_spoils_nothing(self):
        def diagnose(_view, _states):
            raise KubeError("pods are forbidden", status=403)

        error, _seconds, _view = failed([(0, {"a": WAITING})], timeout=5, diagnose=diagnose)
        assert "a: is waiting. cure of a." in str(error)


class TestEarlyStop:
    def test_at_once_without_grace(self):
        error, seconds, _view = failed([(0, {"a": WAITING, "b": READY}), (4, {"a": (_wait.FAILING, "x")})])
        assert (str(error), seconds) == ("a: is failing. cure of a.", 4.0)

    def test_after_its_grace(self):
        _error, seconds, _view = failed([(0, {"a": WAITING}), (4, {"a": (_wait.FAILING, "x", 10.0)})])
        assert seconds == 14.0

    def test_not_when_it_heals_within_its_grace(self):
        waited, _view = wait([(0, {"a": (_wait.FAILING, "x", 10.0)}), (9, {"a": WAITING}), (50, {"a": READY})])
        assert waited.seconds == 50.0

    def test_an_interruption_starts_the_grace_anew(self):
        failing = (_wait.FAILING, "x", 10.0)
        _error, seconds, _view = failed([(0, {"a": failing}), (8, {"a": WAITING}), (9, {"a": failing})])
        assert seconds == 19.0

    def test_another_cause_starts_the_grace_anew(self):
        changes = [(0, {"a": (_wait.FAILING, "x", 10.0)}), (8, {"a": (_wait.FAILING, "y", 10.0)})]
        assert failed(changes)[1] == 18.0

    def test_the_same_cause_in_other_words_does_not(self):
        clock = FakeClock()
        view = FakeView(clock)
        texts = iter(["pulls", "backs off", "pulls", "backs off"])

        def flipping(_view):
            return [_wait.State("a", _wait.FAILING, next(texts), cause="image", grace=10.0, again=5.0)]

        with pytest.raises(_wait.WaitError, match="a: pulls"):
            _wait.wait_for(view, flipping, 100, clock)
        assert clock() - view.started == 10.0

    def test_the_time_out_comes_first_when_the_grace_is_longer(self):
        error, seconds, _view = failed([(0, {"a": (_wait.FAILING, "x", 60.0)})], timeout=30)
        assert seconds == 30.0
        assert str(error).startswith("Not ready after 30 s: a: is failing.")


class TestErrorsOfTheApiServer:
    def test_never_reached_is_the_wrong_address(self):
        _error, seconds, _view = failed([(0, {"error": KubeError("no answer")})], error=KubeError)
        assert _wait.FIRST_CONTACT_SECONDS <= seconds < _wait.FIRST_CONTACT_SECONDS + _wait.LAST_PAUSE + 0.1

    def test_a_slow_start_is_borne(self):
        waited, _view = wait([(0, {"error": KubeError("no answer")}), (5, {"error": None, "a": READY})])
        assert 5.0 <= waited.seconds < 5.0 + _wait.LAST_PAUSE + 0.1

    @pytest.mark.parametrize("status", [None, 500, 503, 429])
    def test_lost_later_is_borne_until_the_deadline(self, status):
        changes = [(0, {"a": WAITING}), (1, {"error": KubeError("no answer", status=status)})]
        error, seconds, view = failed(changes, timeout=60)
        assert 59.0 <= seconds <= 60.0
        assert "a: is waiting" in str(error) and "no answer" in str(error)
        assert max(view.pauses[1:]) <= _wait.LAST_PAUSE

    def test_lost_and_found(self):
        changes = [(0, {"a": WAITING}), (1, {"error": KubeError("no answer")}), (40, {"error": None, "a": READY})]
        assert wait(changes)[0].seconds < 40.0 + _wait.LAST_PAUSE + 0.1

    @pytest.mark.parametrize("status", [401, 403, 404, 400])
    def test_a_refusal_stops_at_once(self, status):
        _error, seconds, _view = failed([(0, {"error": KubeError("no", status=status)})], error=KubeError)
        assert seconds == 0.0

    def test_a_refusal_just_after_an_outage_is_borne_for_a_while(self):
        changes = [
            (0, {"a": WAITING}),
            (1, {"error": KubeError("no answer")}),
            (2, {"error": KubeError("caches are not filled", status=403)}),
        ]
        healed, _view = wait([*changes, (10, {"error": None, "a": READY})])
        assert healed.seconds >= 10.0
        _error, seconds, _view = failed(changes, error=KubeError)
        assert 2 + _wait.REFUSAL_SECONDS - 2 <= seconds <= 2 + _wait.REFUSAL_SECONDS + _wait.LAST_PAUSE

    def test_a_wrong_certificate_stops_at_once(self):
        error = KubeError("certificate verify failed", permanent=True)
        _error, seconds, _view = failed([(0, {"error": error})], error=KubeError)
        assert seconds == 0.0

    def test_retry_after_is_honoured_within_bounds(self):
        for asked, paused in ((3.0, 3.0), (3600.0, _wait.LONGEST_RETRY_AFTER)):
            clock = FakeClock()
            patience = _wait.Patience(clock, _wait.Outages(), worked=True)
            assert patience.endure(KubeError("slow down", status=429, retry_after=asked)) == paused

    def test_pauses_grow_and_start_anew_after_an_answer(self):
        patience = _wait.Patience(FakeClock(), _wait.Outages(), worked=True)
        pauses = [patience.endure(KubeError("no answer")) for _attempt in range(7)]
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        patience.answered()
        assert patience.endure(KubeError("no answer")) == 0.05

    def test_an_answer_ends_a_refusal(self):
        clock = FakeClock()
        patience = _wait.Patience(clock, _wait.Outages(), worked=True)
        patience.endure(KubeError("forbidden", status=403))
        patience.answered()
        clock.now += 2 * _wait.REFUSAL_SECONDS
        assert patience.endure(KubeError("forbidden", status=403)) == 0.05


class Stopped:
    """A threading.Event that is set after so many waits; its waits move the clock and are recorded."""

    def __init__(self, clock, waits):
        self.clock, self.left, self.waits = clock, waits, []

    def is_set(self):
        return self.left <= 0

    def wait(self, seconds):
        self.clock.now += seconds
        self.waits.append(seconds)
        self.left -= 1


class ScriptedKube:
    """Answers list and watch from a script, in order; records what was asked."""

    def __init__(self, *script):
        self.script, self.asked = list(script), []

    def _next(self, kind):
        expected, answer = self.script.pop(0)
        assert expected == kind, f"{kind} was asked where the script has {expected}"
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, path, what, **query):
        self.asked.append(("list", query))
        version, *objects = self._next("list")
        return {"metadata": {"resourceVersion": version}, "items": objects}

    def watch(self, path, what, seconds, **query):
        self.asked.append(("watch", query["resourceVersion"]))
        for event in self._next("watch"):
            if isinstance(event, Exception):
                raise event
            yield event


def thing(name, version, **more):
    return {"metadata": {"name": name, "namespace": "demo", "resourceVersion": version}, **more}


def event(kind, name, version):
    return {"type": kind, "object": thing(name, version)}


def followed(*script, version="10", waits=1, selection=WORKLOADS):
    """Run a follower through the script; returns its messages, the kube and the pauses."""
    clock, messages = FakeClock(), []
    stopped = Stopped(clock, waits)
    kube = ScriptedKube(*script)
    patience = _wait.Patience(clock, _wait.Outages(), worked=True)
    _wait.follow(kube, selection, version, messages.append, patience, stopped)
    return messages, kube, stopped.waits


class TestFollow:
    def test_reports_changes_and_continues_where_the_watch_ended(self):
        messages, kube, _waits = followed(
            ("watch", [event("ADDED", "a", "11"), event("MODIFIED", "a", "12")]),
            ("watch", [event("DELETED", "a", "15")]),
            waits=2,
        )
        assert [(item.object["metadata"]["resourceVersion"], item.gone) for item in messages] == [
            ("11", False),
            ("12", False),
            ("15", True),
        ]
        assert kube.asked == [("watch", "10"), ("watch", "12")]

    def test_a_bookmark_moves_on_silently(self):
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
        messages, kube, _waits = followed(("watch", [bookmark]), ("watch", []), waits=2)
        assert messages == []
        assert kube.asked == [("watch", "10"), ("watch", "99")]

    def test_an_ended_watch_is_not_renewed_in_a_busy_loop(self):
        _messages, _kube, waits = followed(("watch", []), ("watch", []), waits=2)
        assert waits == [_wait.FIRST_PAUSE, _wait.FIRST_PAUSE]

    @pytest.mark.parametrize(
        "gone",
        [
            [{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}],
            KubeError("too old resource version", status=410),
        ],
        ids=["event", "answer"],
    )
    def test_an_expired_version_is_listed_anew_and_is_no_trouble(self, gone):
        messages, kube, _waits = followed(("watch", gone), ("list", ["50", thing("a", "44")]), ("watch", []), waits=2)
        assert messages == [_wait.Listed(WORKLOADS, [thing("a", "44")])]
        assert [asked[0] for asked in kube.asked] == ["watch", "list", "watch"]
        assert kube.asked[-1] == ("watch", "50")

    def test_a_broken_connection_is_listed_anew(self):
        broken = KubeError("connection reset")
        messages, kube, _waits = followed(("watch", [event("MODIFIED", "a", "12"), broken]), ("list", ["50"]), ("watch", []), waits=2)
        assert [type(item).__name__ for item in messages] == ["Changed", "Troubled", "Listed"]
        assert kube.asked[-1] == ("watch", "50")

    def test_a_restarted_api_server_is_asked_until_it_answers(self):
        refused = [("list", KubeError("connection refused"))] * 20
        messages, kube, waits = followed(("watch", KubeError("connection refused")), *refused, ("list", ["50"]), ("watch", []), waits=22)
        assert isinstance(messages[-1], _wait.Listed)
        assert sum(waits) > 15 and max(waits) == _wait.LAST_PAUSE
        assert kube.script == []

    def test_refused_for_good_after_a_while_only(self):
        denied = KubeError("forbidden", status=403)
        messages, kube, waits = followed(("watch", denied), *[("list", denied)] * 99, waits=99)
        assert messages[-1] == _wait.Refused(WORKLOADS, denied)
        assert _wait.REFUSAL_SECONDS <= sum(waits) < _wait.REFUSAL_SECONDS + _wait.LAST_PAUSE + 0.1

    def test_other_errors_of_a_watch_are_borne(self):
        error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd leader changed"}}
        messages, _kube, _waits = followed(("watch", [error]), ("list", ["50"]), ("watch", []), waits=2)
        assert [type(item).__name__ for item in messages] == ["Troubled", "Listed"]
        assert "etcd leader changed" in messages[0].reason

    def test_selectors_are_sent_with_list(self):
        named = _wait.Selection.named(WORKLOADS.path, "a")
        _messages, kube, _waits = followed(("list", ["1"]), ("watch", []), version="", selection=named)
        assert kube.asked[0] == ("list", {"fieldSelector": "metadata.name=a"})


class LiveKube:
    """Lists what it has; a watch delivers what the test puts into its queue, from the view's own thread."""

    def __init__(self, *objects, error=None):
        self.objects, self.error = list(objects), error
        self.events, self.lists, self.watches = queue.Queue(), 0, threading.Semaphore(0)

    def get(self, path, what, **query):
        self.lists += 1
        if self.error:
            raise self.error
        return {"metadata": {"resourceVersion": "1"}, "items": list(self.objects)}

    def watch(self, path, what, seconds, **query):
        self.watches.release()
        while (item := self.events.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
def live():
    """Makes views that end with the test."""
    kubes = []

    def make(*objects, error=None):
        kube = LiveKube(*objects, error=error)
        kubes.append(kube)
        return kube, _wait.View(kube)

    yield make
    for kube in kubes:
        kube.events.put(KubeError("the test is over", permanent=True))


class TestView:
    def test_what_is_ready_costs_one_request_and_no_watch(self, live):
        kube, view = live(thing("a", "1"))
        with view:
            assert view.items(WORKLOADS) == view.items(WORKLOADS) == [thing("a", "1")]
        assert kube.lists == 1
        assert not kube.watches.acquire(blocking=False)

    def test_changes_arrive(self, live):
        kube, view = live(thing("a", "1"))
        with view:
            view.items(WORKLOADS)
            for sent, names in (("ADDED", ["a", "b"]), ("MODIFIED", ["a", "b"]), ("DELETED", ["a"])):
                kube.events.put(event(sent, "b", "2"))
                view.pause(10)
                assert sorted(item["metadata"]["name"] for item in view.items(WORKLOADS)) == names

    def test_a_list_replaces_what_was_known(self, live):
        kube, view = live(thing("a", "1"), thing("b", "1"))
        with view:
            view.items(WORKLOADS)
            kube.objects = [thing("c", "9")]
            kube.events.put(KubeError("too old", status=410))
            view.pause(10)
            assert view.items(WORKLOADS) == [thing("c", "9")]

    def test_trouble_is_known_until_it_is_over(self, live):
        kube, view = live(thing("a", "1"))
        with view:
            view.items(WORKLOADS)
            kube.error = KubeError("connection refused")
            kube.events.put(kube.error)
            view.pause(10)
            assert view.trouble == "connection refused"
            kube.error = None
            while view.trouble:
                view.pause(10)
            assert view.items(WORKLOADS) == [thing("a", "1")]

    def test_what_may_not_be_read_reads_as_nothing_if_it_is_optional(self, live):
        pods = _wait.Selection("/api/v1/namespaces/olm/pods", optional=True)
        kube, view = live(error=KubeError("forbidden", status=403))
        with view:
            assert view.items(pods) == view.items(pods) == []
            view.pause(0)
        assert kube.lists == 1
        assert not kube.watches.acquire(blocking=False)

    def test_what_may_not_be_read_is_an_error_otherwise(self, live):
        _kube, view = live(error=KubeError("forbidden", status=403))
        with view, pytest.raises(KubeError, match="forbidden"):
            view.items(WORKLOADS)

    def test_an_outage_is_an_error_even_if_it_is_optional(self, live):
        _kube, view = live(error=KubeError("connection refused"))
        with view, pytest.raises(KubeError, match="refused"):
            view.items(_wait.Selection("/api/v1/namespaces/olm/pods", optional=True))

    def test_a_missing_api_is_said_in_the_words_of_who_asked(self, live):
        _kube, view = live(error=KubeError("404 page not found", status=404))
        with view, pytest.raises(KubeError, match="install OLM") as raised:
            view.items(_wait.Selection("/apis/operators.coreos.com/v1alpha1/x", absent="install OLM"))
        assert raised.value.status == 404

    @pytest.mark.parametrize("optional", [False, True])
    def test_a_watch_refused_for_good(self, live, optional):
        kube, view = live(thing("a", "1"))
        selection = _wait.Selection(WORKLOADS.path, optional=optional)
        with view:
            view.items(selection)
            kube.events.put(KubeError("no longer allowed", status=403, permanent=True))
            if optional:
                view.pause(10)
                assert view.items(selection) == []
            else:
                with pytest.raises(KubeError, match="no longer allowed"):
                    view.pause(10)
