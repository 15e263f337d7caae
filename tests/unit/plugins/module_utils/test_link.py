# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""A link opens late, closes after a failure, opens again, and closes at the end."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import EndpointError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Http, Link, Unreachable, _reason


class Place:
    """Connections are numbers; what happened is in ``log``."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.count = 0
        self.refuse: Exception | None = None
        self.reason: str | None = None

    def connect(self) -> Connection:
        if self.refuse:
            raise self.refuse
        self.count += 1
        return Connection(self, self.count)


class Connection:
    """Not a generator, which Python would close by itself when it is forgotten."""

    def __init__(self, place: Place, number: int) -> None:
        self.place, self.number = place, number

    def __enter__(self) -> int:
        self.place.log.append(f"open {self.number}")
        return self.number

    def __exit__(self, _type, exc, _trace) -> None:
        self.place.log.append(f"close {self.number}")
        if exc and self.place.reason:
            raise EndpointError(self.place.reason) from exc


@pytest.fixture
def place() -> Place:
    return Place()


def fail(_connection) -> None:
    raise Unreachable("reset")


def test_one_connection_serves_all_uses_and_is_closed_at_the_end(place) -> None:
    with Link("http://x", place.connect) as link:
        assert place.log == []
        assert [link.use(lambda one: one * 10) for _ in range(3)] == [10, 10, 10]
        assert place.log == ["open 1"]
    assert place.log == ["open 1", "close 1"]


def test_after_a_failure_the_next_use_connects_anew(place) -> None:
    with Link("http://x", place.connect) as link:
        link.use(lambda one: one)
        with pytest.raises(Unreachable, match="^http://x: reset$"):
            link.use(fail)
        assert place.log == ["open 1", "close 1"]
        assert link.use(lambda one: one) == 2
    assert place.log == ["open 1", "close 1", "open 2", "close 2"]


def test_the_reason_of_the_port_forward_wins(place) -> None:
    place.reason = "nothing listens on port 1 of pod p"
    with Link("http://x", place.connect) as link:
        with pytest.raises(Unreachable, match="^http://x: nothing listens on port 1 of pod p$"):
            link.use(fail)
        place.reason = None
        assert link.use(lambda one: one) == 2


def test_a_connection_that_cannot_be_made_is_unreachable(place) -> None:
    place.refuse = EndpointError("Service s has no pod behind it")
    with Link("http://x", place.connect) as link:
        with pytest.raises(Unreachable, match="Service s has no pod"):
            link.use(lambda one: one)
        place.refuse = None
        assert link.use(lambda one: one) == 1


def test_other_errors_pass_and_are_no_matter_of_this_endpoint(place) -> None:
    place.refuse = ModelMonitoringError("no kubeconfig")
    with Link("http://x", place.connect) as link, pytest.raises(ModelMonitoringError) as error:
        link.use(lambda one: one)
    assert not isinstance(error.value, Unreachable) and str(error.value) == "no kubeconfig"


@pytest.mark.parametrize(
    "text",
    [
        "<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused",
        "HTTPConnection(host='127.0.0.1', port=2): Failed to establish a new connection: [Errno 111] Connection refused",
        "HTTPSConnectionPool(host='127.0.0.1', port=2): Failed to establish a new connection: [Errno 111] Connection refused",
    ],
)
def test_reasons_do_not_show_objects(text) -> None:
    assert _reason(Exception(text)) == "Failed to establish a new connection: [Errno 111] Connection refused"


class Pool:
    """Remembers the URLs and answers them all."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def request(self, method, url, **_options):
        self.urls.append(url)
        return type("Response", (), {"status": 200, "data": b"", "headers": {}})


@pytest.mark.parametrize(
    ("base", "query", "url"),
    [
        ("", None, "/api/search"),
        ("/tempo", {}, "/tempo/api/search"),
        ("", {"limit": 20, "start": 1.5}, "/api/search?limit=20&start=1.5"),
        # TraceQL: what has a meaning in a query string or a URL must arrive as it is.
        ("", {"q": '{ span.a = "b&c=d" } | 1+1 # ü'}, "/api/search?q=%7B+span.a+%3D+%22b%26c%3Dd%22+%7D+%7C+1%2B1+%23+%C3%BC"),
    ],
)
def test_the_query_is_encoded_into_the_url(base, query, url) -> None:
    pool = Pool()
    assert Http(pool, base).request("GET", "/api/search", timeout=1, query=query).status == 200
    assert pool.urls == [url]
