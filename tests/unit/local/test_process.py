import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reviewloop.local import process as process_module
from reviewloop.local.process import Process, clean_environment, command_of, last_lines, launch, running, stop


def _forget(_: Process) -> None:
    """Record a process nowhere: the test stops it."""


_LAUNCHER = """
import sys
from pathlib import Path
from reviewloop.local.process import launch

def record(process):
    print(process.pid, process.started, sep="\\n")
    sys.stdin.read()

log = Path(sys.argv[1])
launch(["/bin/sh", "-c", "echo begun; sleep 60"], record, cwd=log.parent, log=log)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@pytest.fixture
def sleeper(tmp_path: Path, log: Path) -> Iterator[Process]:
    process = launch(["/bin/sleep", "60"], _forget, cwd=tmp_path, log=log)
    yield process
    stop(process, [], grace_seconds=0)


def _wait_for(words: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def test_a_launched_process_is_neither_our_child_nor_in_our_session(sleeper: Process):
    assert sleeper.is_alive()
    assert os.getsid(sleeper.pid) != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(sleeper.pid, os.WNOHANG)


def test_a_program_does_not_begin_before_it_is_recorded(tmp_path: Path, log: Path):
    recorded: list[Process] = []

    def record(process: Process) -> None:
        assert process.is_alive()
        time.sleep(0.1)  # a program that did not wait would have printed by now
        assert log.read_text() == ""
        recorded.append(process)

    process = launch(["/bin/sh", "-c", "echo begun"], record, cwd=tmp_path, log=log)
    _wait_for("begun", log)
    assert recorded == [process]


def test_an_interrupt_before_it_is_recorded_leaves_a_program_that_never_began(tmp_path: Path, log: Path):
    seen: list[Process] = []

    def interrupted(process: Process) -> None:
        seen.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(["/bin/sh", "-c", "echo begun; sleep 60"], interrupted, cwd=tmp_path, log=log)
    _wait_for("ended with status", log)
    assert not seen[0].is_alive()
    assert "begun" not in log.read_text()


def test_a_launcher_killed_before_it_recorded_leaves_a_program_that_never_began(tmp_path: Path, log: Path):
    with subprocess.Popen(
        [sys.executable, "-u", "-c", _LAUNCHER, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout
        process = Process(int(launcher.stdout.readline()), launcher.stdout.readline().decode().strip())
        assert process.is_alive()
        launcher.kill()
    _wait_for("ended with status", log)
    assert not process.is_alive()
    assert "begun" not in log.read_text()


def test_a_program_whose_folder_is_missing_says_so(tmp_path: Path, log: Path):
    with pytest.raises(FileNotFoundError):
        launch(["/bin/echo"], _forget, cwd=tmp_path / "missing", log=log)


def test_a_process_killed_while_it_is_recorded_is_known_to_be_gone(tmp_path: Path, log: Path):
    def record(process: Process) -> None:
        os.kill(process.pid, signal.SIGKILL)
        _wait_for("status 137", log)

    assert not launch(["/bin/echo", "begun"], record, cwd=tmp_path, log=log).is_alive()


def test_a_service_reads_nothing_and_holds_no_pipe_of_its_launcher(tmp_path: Path, log: Path):
    process = launch(["/bin/sh", "-c", "cat; echo waiting; exec sleep 60"], _forget, cwd=tmp_path, log=log)
    try:
        _wait_for("waiting", log)  # so `cat` has read the end of its input
        if sys.platform == "linux":
            held = {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()}
            assert held == {"/dev/null", str(log)}
    finally:
        stop(process, [], grace_seconds=0)


def test_a_program_that_did_not_heed_the_first_signal_is_told_again(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_module, "REPEAT_SECONDS", 0.05)
    script = "trap 'echo one; trap \"echo two; exit\" TERM' TERM; echo ready; while :; do sleep 0.02; done"
    process = launch(["/bin/sh", "-c", script], _forget, cwd=tmp_path, log=log)
    _wait_for("ready", log)
    stop(process, [signal.SIGTERM], grace_seconds=60)
    assert "two" in log.read_text()


def test_another_process_under_the_same_pid_is_not_taken_for_ours(sleeper: Process):
    assert not Process(sleeper.pid, "at another time").is_alive()


def test_a_zombie_is_not_alive(sleeper: Process):
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        zombie = running(child.pid)
        assert zombie.is_alive()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not zombie.is_alive()


def test_a_process_that_ignores_the_mild_signal_is_killed(tmp_path: Path, log: Path):
    stubborn = launch(
        ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"],
        _forget,
        cwd=tmp_path,
        log=log,
    )
    _wait_for("deaf", log)
    stop(stubborn, [signal.SIGTERM], grace_seconds=0.2)
    assert not stubborn.is_alive()


def test_a_program_that_ends_at_once_leaves_its_words_in_the_log(tmp_path: Path, log: Path):
    process = launch(
        ["/bin/sh", "-c", "echo first; echo cannot go on >&2; exit 3"], _forget, cwd=tmp_path, log=log
    )
    _wait_for("status", log)
    assert not process.is_alive()
    assert last_lines(log, 2) == "  cannot go on\n  /bin/sh ended with status 3"


def test_a_killed_process_is_reaped_by_a_parent_that_tells_how_it_ended(sleeper: Process, log: Path):
    os.kill(sleeper.pid, signal.SIGKILL)
    _wait_for("ended with status 137", log)
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper.pid, 0)


def test_a_log_is_readable_by_its_owner_alone(sleeper: Process, log: Path):
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_grown_log_is_put_aside_at_the_next_start(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_module, "KEPT_LOG_BYTES", 10)
    log.write_text("of an earlier run\n")
    launch(["/bin/echo", "anew"], _forget, cwd=tmp_path, log=log)
    assert log.with_name("service.log.1").read_text() == "of an earlier run\n"


def test_services_see_nothing_of_settings_and_secrets_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", "secret")
    assert not {"JAVA_TOOL_OPTIONS", "PGPORT", "REVIEWLOOP_DATABASE__URL"} & clean_environment().keys()


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_a_process_is_known_by_the_boot_and_the_ticks_since_then_whatever_the_clock_says(
    sleeper: Process, monkeypatch: pytest.MonkeyPatch
):
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    ticks = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert sleeper.started == f"{boot}/{ticks}"
    booted = psutil.boot_time()
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: booted + 3_600)  # as after the clock was set
    assert psutil.Process(sleeper.pid).create_time() > time.time() + 3_000
    assert sleeper.is_alive()


def test_a_pid_that_nobody_has_is_no_process():
    assert not running(2**22 + 1).is_alive()
    assert command_of(2**22 + 1) == ""
