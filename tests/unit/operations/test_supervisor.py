"""The supervisor of several processes: who dies is named and started again, but not for ever."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from classifier.settings import ClassifierSettings
from reviewloop.cli.running import on_signals
from reviewloop.operations.supervisor import Child, Supervisor, worker_environments
from reviews.errors import ReviewLoopError, WrongUse, describe_exit
from reviews.retry import backoff_seconds

_PATIENCE_SECONDS = 30


def _shell(name: str, script: str, **options: bool) -> Child:
    return Child(name, ["/bin/sh", "-c", script], **options)


def _quick() -> Iterator[float]:
    return backoff_seconds(0.01)


def _supervisor(
    children: list[Child], stopping: threading.Event | None = None, **options: object
) -> Supervisor:
    return Supervisor(
        children,
        stopping or threading.Event(),
        **{"stop_seconds": 30, "pauses": _quick, **options},  # type: ignore[arg-type]
    )


@contextmanager
def _running(children: list[Child]) -> Iterator[None]:
    """The supervisor at work in a thread; told to stop at the end, whatever happened."""
    stopping = threading.Event()
    thread = threading.Thread(target=_supervisor(children, stopping).run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_PATIENCE_SECONDS)
    assert not thread.is_alive()


def _await(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_a_child_that_is_killed_while_another_lives_is_named_and_started_again(tmp_path: Path):
    pids = tmp_path / "pids"
    children = [
        _shell("worker 1", "exec sleep 600", is_endless=True),
        _shell("worker 2", f"echo $$ >> {pids}; exec sleep 600", is_endless=True),
    ]
    with capture_logs() as logs, _running(children):
        _await(lambda: len(_lines(pids)) == 1)
        os.kill(int(_lines(pids)[0]), signal.SIGKILL)
        _await(lambda: len(_lines(pids)) == 2)
    (died,) = [entry for entry in logs if entry["event"] == "process_died"]
    assert died["process"] == "worker 2"
    assert "SIGKILL" in died["cause"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(_lines(pids)[1]), 0)


def test_a_child_that_keeps_dying_is_given_up_and_the_others_are_stopped(tmp_path: Path):
    starts, pids = tmp_path / "starts", tmp_path / "pids"
    children = [
        _shell("worker 1", f"echo $$ > {pids}; exec sleep 600"),
        _shell("worker 2", f"echo x >> {starts}; exit 7"),
    ]
    with pytest.raises(ReviewLoopError, match=r"worker 2 died 3 times in a row, at last by exit code 7"):
        _supervisor(children, most_deaths=3).run()
    assert len(_lines(starts)) == 3
    with pytest.raises(ProcessLookupError):
        os.kill(int(_lines(pids)[0]), 0)


def test_the_pauses_between_deaths_grow_and_begin_anew_after_a_long_life(tmp_path: Path):
    ends = tmp_path / "ends"
    child = _shell("worker 1", f"echo x >> {ends}; [ $(wc -l < {ends}) -ge 3 ] || exit 1")

    def pauses() -> Iterator[float]:
        return iter([0.01, 0.02, 0.03])

    for steady_seconds, expected in ((600.0, [0.01, 0.02]), (0.0, [0.01, 0.01])):
        ends.unlink(missing_ok=True)
        with capture_logs() as logs:
            _supervisor([child], steady_seconds=steady_seconds, pauses=pauses).run()
        said = [entry["restart_in_seconds"] for entry in logs if entry["event"] == "process_died"]
        assert said == expected


def test_a_child_that_refuses_its_settings_is_not_started_again(tmp_path: Path):
    starts = tmp_path / "starts"
    with pytest.raises(WrongUse, match="worker 1 refused its settings"):
        _supervisor([_shell("worker 1", f"echo x >> {starts}; exit 2")]).run()
    assert len(_lines(starts)) == 1


def test_an_endless_child_that_ends_well_is_started_again_and_another_is_done(tmp_path: Path):
    starts, once = tmp_path / "starts", tmp_path / "once"
    children = [
        _shell(
            "endless",
            f"echo x >> {starts}; [ $(wc -l < {starts}) -lt 2 ] || exec sleep 600",
            is_endless=True,
        ),
        _shell("done", f"echo x >> {once}"),
    ]
    with _running(children):
        _await(lambda: len(_lines(starts)) == 2 and len(_lines(once)) == 1)
    assert (len(_lines(starts)), len(_lines(once))) == (2, 1)


def test_a_child_that_does_not_stop_in_time_is_killed_and_reported(tmp_path: Path):
    ready, stopping = tmp_path / "ready", threading.Event()
    deaf = _shell("deaf", f"trap '' TERM; echo $$ > {ready}; while :; do sleep 0.05; done")

    def stop_when_ready() -> None:
        if _lines(ready):
            stopping.set()

    with pytest.raises(ReviewLoopError, match="deaf ended with SIGKILL"):
        _supervisor([deaf], stopping, stop_seconds=0.3, look=stop_when_ready).run()


def test_a_command_that_cannot_be_started_counts_as_dead():
    with pytest.raises(ReviewLoopError, match="died 2 times in a row, at last by a failed start"):
        _supervisor([Child("worker 1", ["/no/such/command"])], most_deaths=2).run()


_CHILD = """
import sys, threading
from pathlib import Path
from reviewloop.cli.running import on_signals
stopping = threading.Event()
with on_signals(stopping):
    Path(sys.argv[1]).write_text("at work")
    stopping.wait(60)
Path(sys.argv[2]).write_text("ended in order")
"""
_PARENT = """
import sys, threading
from reviewloop.operations.supervisor import Child, Supervisor
child = Child("worker 1", [sys.executable, "-c", *sys.argv[1:]])
Supervisor([child], threading.Event(), stop_seconds=5).run()
"""


def test_a_child_ends_in_order_when_its_supervisor_is_killed(tmp_path: Path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    command = [sys.executable, "-c", _PARENT, _CHILD, str(begun), str(ended)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as parent:
        _await(lambda: _lines(begun) == ["at work"])
        parent.kill()
    _await(lambda: _lines(ended) == ["ended in order"])


def test_a_child_gets_its_variables_and_a_silent_one_prints_nothing(capfd: pytest.CaptureFixture[str]):
    code = "import os; print(os.environ['ANSWER'])"
    children = [
        Child("loud", [sys.executable, "-c", code], {"ANSWER": "forty-two"}),
        Child("silent", [sys.executable, "-c", code], {"ANSWER": "nothing"}, is_silent=True),
    ]
    _supervisor(children).run()
    shown = capfd.readouterr().out
    assert "forty-two\n" in shown
    assert "nothing" not in shown


def test_an_exit_code_is_told_in_words():
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-11) == "SIGSEGV"
    assert describe_exit(-64) == "SIGRTMAX"
    assert describe_exit(-40) == "signal 40"


def test_workers_are_told_one_gpu_each_in_turn():
    told = worker_environments(ClassifierSettings(), 3, cuda_devices=2)
    assert [variables["REVIEWLOOP_CLASSIFIER__DEVICE"] for variables in told] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert [variables["REVIEWLOOP_WORKER"] for variables in told] == ["1", "2", "3"]


def test_workers_are_told_no_gpu_where_there_is_none_or_where_a_device_is_named():
    for device, gpus in (("auto", 0), ("cpu", 2), ("cuda:1", 2)):
        told = worker_environments(ClassifierSettings(device=device), 2, cuda_devices=gpus)
        assert not any("REVIEWLOOP_CLASSIFIER__DEVICE" in variables for variables in told)


def test_workers_on_processors_share_the_cores_unless_threads_are_named():
    cores = max(1, (os.cpu_count() or 1) // 2)
    for settings, threads in ((ClassifierSettings(), str(cores)), (ClassifierSettings(threads=3), None)):
        told = worker_environments(settings, 2, cuda_devices=0)
        assert [variables.get("REVIEWLOOP_CLASSIFIER__THREADS") for variables in told] == [threads] * 2


def test_a_child_with_a_log_has_its_outputs_there_and_its_end_is_told_with_the_last_lines(tmp_path: Path):
    log = tmp_path / "worker.log"
    event = '{"event": "it_failed", "level": "error", "timestamp": "2026-01-31T12:00:00Z", "why": "no disk"}'
    child = Child("worker", ["/bin/sh", "-c", f"echo '{event}'; echo plain >&2; exit 7"], log=log)
    with pytest.raises(ReviewLoopError) as refused:
        _supervisor([child], most_deaths=2).run()
    assert _lines(log) == [event, "plain"] * 2
    assert f"the end of {log}:\n" in str(refused.value)
    assert "  12:00:00 error it_failed why=no disk\n  plain" in str(refused.value)


def test_a_child_starts_only_when_it_may(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    children = [
        Child("second", ["/bin/sh", "-c", f"cat {first} > {second}"], may_start=first.exists),
        _shell("first", f"sleep 0.3; echo x > {first}.new; mv {first}.new {first}"),
    ]
    _supervisor(children).run()
    assert _lines(second) == ["x"]


def test_at_once_kills_what_still_runs_and_what_that_started(tmp_path: Path):
    pids, stopping, at_once = tmp_path / "pids", threading.Event(), threading.Event()
    deaf = "trap '' TERM; sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait; wait"
    child = Child("deaf", ["/bin/sh", "-c", deaf.format(pids)], log=tmp_path / "log")

    def stop_when_ready() -> None:
        if _lines(pids):
            stopping.set()
            at_once.set()

    _supervisor([child], stopping, look=stop_when_ready, at_once=at_once).run()
    for pid in map(int, _lines(pids)[0].split()):
        _await(lambda pid=pid: not psutil.pid_exists(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_first_signal_stops_and_a_second_one_does_not_wait():
    stopping, at_once = threading.Event(), threading.Event()
    with on_signals(stopping, at_once, also=(signal.SIGHUP,)):
        os.kill(os.getpid(), signal.SIGHUP)
        assert (stopping.is_set(), at_once.is_set()) == (True, False)
        os.kill(os.getpid(), signal.SIGINT)
        assert at_once.is_set()
