# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Background processes of the lab, with real ones."""

from __future__ import annotations

import os
import signal

from lab.process import Process, start_time


def test_is_found_again_and_stopped(tmp_path):
    Process(tmp_path, "sleeper").start(["sleep", "60"])
    again = Process(tmp_path, "sleeper")
    pid = again.pid()
    assert pid is not None
    again.stop()
    assert start_time(pid) is None
    assert again.pid() is None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    process = Process(tmp_path, "stubborn")
    process.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    while "ready" not in process.last_lines():
        os.sched_yield()
    pid = process.pid()
    process.stop(grace=0.2)
    assert start_time(pid) is None


def test_a_pid_that_another_process_has_got_since_does_not_count(tmp_path):
    process = Process(tmp_path, "sleeper")
    process.start(["sleep", "60"])
    pid = process.pid()
    (tmp_path / "pid" / "sleeper").write_text(f"{os.getpid()} 1\n")
    assert process.pid() is None
    process.stop()  # must not end this very test
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_last_lines_of_the_log(tmp_path):
    process = Process(tmp_path, "talker")
    process.start(["sh", "-c", "echo one; echo two >&2; echo three"])
    while process.pid() is not None:
        os.sched_yield()
    assert process.last_lines(2) == "two\nthree"
    assert Process(tmp_path, "silent").last_lines() == ""
