"""Work in a thread of its own."""

import os
import sys
import threading

import pytest

from classifier.host import build_in_background

PRIORITY = os.PRIO_PROCESS


def niceness():
    return os.getpriority(PRIORITY, threading.get_native_id())


def test_it_runs_in_a_thread_that_has_ended_when_the_caller_goes_on():
    thread = build_in_background(threading.current_thread, make_way=False)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_what_it_raises_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        build_in_background(lambda: 1 / 0, make_way=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority belongs to the whole process")
def test_only_that_thread_makes_way():
    before = niceness()
    assert build_in_background(niceness, make_way=True) == 19
    assert niceness() == before
    assert build_in_background(niceness, make_way=False) == before
