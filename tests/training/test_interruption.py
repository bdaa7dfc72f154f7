# SPDX-License-Identifier: Apache-2.0
"""A signal is heard by a thread at once, and what listened before gets its signals back."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from gsqc.training.interruption import Interruption, stopping
from gsqc.training.signal_watch import SignalWatch


@pytest.fixture
def earlier() -> Iterator[int]:
    """The reading end of a wake-up pipe, such as the event loop of a notebook has."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    before = signal.set_wakeup_fd(writing)
    yield reading
    assert signal.set_wakeup_fd(before) == writing
    os.close(reading)
    os.close(writing)


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(10)


def test_the_first_signal_is_told_in_another_thread() -> None:
    told = threading.Event()
    threads: list[threading.Thread] = []
    with Interruption() as interruption:
        interruption.tell = lambda: (threads.append(threading.current_thread()), told.set())
        signal.raise_signal(signal.SIGTERM)
        wait_for(told)
        assert interruption.exit_code == 128 + signal.SIGTERM
    assert threads[0] is not threading.main_thread()


def test_the_watch_before_gets_the_other_signals(earlier: int) -> None:
    heard = threading.Event()
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    own = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with SignalWatch(lambda _: heard.set(), (signal.SIGUSR2,)):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)
            wait_for(heard)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, handler)
        signal.signal(signal.SIGUSR2, own)
    assert os.read(earlier, 10) == bytes([signal.SIGUSR1, signal.SIGUSR1])


def test_nothing_stays_behind() -> None:
    gc.collect()  # what earlier tests left would be closed in between
    before = len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGINT)
    for _ in range(3):
        with Interruption():
            pass
    end = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before[0] and time.monotonic() < end:
        time.sleep(0.01)
    assert (len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGINT)) == before


def test_other_threads_take_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_reader_that_is_gone_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        told.set()
        raise BrokenPipeError

    told = threading.Event()
    with Interruption() as interruption:
        interruption.tell = broken
        signal.raise_signal(signal.SIGINT)
        wait_for(told)
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_the_length_of_a_step_is_told() -> None:
    assert "after this step;" in stopping(None)
    assert "(about 0.013 s)" in stopping(0.0131)
    assert "(about 184 s)" in stopping(183.6)
