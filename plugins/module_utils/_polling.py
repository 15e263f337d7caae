# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What all probes share, also those that send nothing: asking again where there is no watch, and one API client for all endpoints."""

from __future__ import annotations

import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube

FIRST_CONTACT_SECONDS = 15.0
"""After that long without any answer a server is not restarting, it is the wrong address."""

Clock = t.Callable[[], float]
"""Monotonic seconds."""

Sleep = t.Callable[[float], None]
"""Lets so many seconds pass on the clock."""


def poll(done: t.Callable[[], bool], timeout: float, clock: Clock, sleep: Sleep, longest: float = 1.0) -> None:
    """Ask until done or time is up, at the last moment once more; quickly at first, then every ``longest`` seconds (there is no watch here)."""
    deadline = clock() + timeout
    pause = 0.02
    while True:
        late = clock() >= deadline
        if done() or late:
            return
        sleep(max(0.0, min(pause, deadline - clock())))
        pause = min(pause * 1.5, longest)


def rounded(seconds: float | None) -> float | None:
    """For results: milliseconds are enough."""
    return None if seconds is None else round(seconds, 3)


def api_client_factory(params: t.Mapping[str, t.Any]) -> t.Callable[[], t.Any]:
    """Makes one API client for all endpoints, and only when one needs it."""
    client: list[t.Any] = []

    def make() -> t.Any:
        if not client:
            client.append(_kube.connect(params))
        return client[0]

    return make
