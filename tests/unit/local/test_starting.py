"""Start and stop with services that are sleeping processes: what happens when one of them fails."""

import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from reviewloop.local import stack as stack_module
from reviewloop.local.places import HOST, StackError
from reviewloop.local.process import Process, Record, launch, stop
from reviewloop.local.stack import start_services, stop_services
from reviewloop.local.state import ServiceState, StackState


class Sleeper:
    """A service that is a sleeping process."""

    stop_signals = (signal.SIGTERM,)
    stop_seconds = 5.0

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.command = ["/bin/sleep", "60"]
        self.prepared = 0
        self.launched: list[Process] = []
        self.ready: Callable[[], bool] = lambda: True

    def prepare(self, say: Callable[[str], None]) -> None:
        self.prepared += 1

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        def keep(process: Process) -> None:
            self.launched.append(process)
            record(process)

        return launch(self.command, keep, cwd=self.log.parent, log=self.log)

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:
        return self.ready()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, Sleeper]]:
    sleepers = {name: Sleeper(tmp_path, name) for name in ("kafka", "postgres")}
    yield sleepers
    for sleeper in sleepers.values():
        for process in sleeper.launched:
            stop(process, [], grace_seconds=0)


@pytest.fixture
def saved() -> list[StackState]:
    """Every state that was kept, the last one last."""
    return []


NEW = StackState(ServiceState((0, 0), "kafka"), ServiceState((0,), "postgres"), "hush")


def _alive(services: dict[str, Sleeper]) -> dict[str, int]:
    return {name: sum(p.is_alive() for p in service.launched) for name, service in services.items()}


def test_both_run_on_ports_of_their_own_after_a_start(services, saved):
    state = start_services(services, NEW, saved.append, lambda _: None)
    assert state.kafka.is_running()
    assert state.postgres.is_running()
    assert len(set(state.all_ports())) == 3
    assert saved[-1] == state


def test_a_process_is_kept_in_the_state_before_it_is_waited_for(services, saved):
    services["kafka"].ready = lambda: saved[-1].kafka.process == services["kafka"].launched[0]
    start_services(services, NEW, saved.append, lambda _: None)


def test_a_second_start_launches_nothing_and_keeps_ports(services, saved):
    first = start_services(services, NEW, saved.append, lambda _: None)
    assert start_services(services, first, saved.append, lambda _: None) == first
    assert [len(service.launched) for service in services.values()] == [1, 1]
    assert [service.prepared for service in services.values()] == [1, 1]


def test_only_the_service_that_ended_is_started_again(services, saved):
    first = start_services(services, NEW, saved.append, lambda _: None)
    stop(services["kafka"].launched[0], [], grace_seconds=0)
    second = start_services(services, first, saved.append, lambda _: None)
    assert second.kafka.is_running()
    assert second.all_ports() == first.all_ports()
    assert [len(service.launched) for service in services.values()] == [2, 1]


def test_when_one_ends_while_starting_the_other_is_stopped_and_its_last_words_are_told(services, saved):
    services["postgres"].command = ["/bin/sh", "-c", "echo the data is of another version; sleep 0.2"]
    services["postgres"].ready = lambda: False
    with pytest.raises(
        StackError, match=r"postgres ended while it started(?s:.*)the data is of another version"
    ):
        start_services(services, NEW, saved.append, lambda _: None)
    assert _alive(services) == {"kafka": 0, "postgres": 0}
    assert (saved[-1].kafka.process, saved[-1].postgres.process) == (None, None)


def test_a_service_that_was_ready_before_survives_the_failed_start_of_the_other(services, saved):
    first = start_services(services, NEW, saved.append, lambda _: None)
    stop(services["kafka"].launched[0], [], grace_seconds=0)
    services["kafka"].command = ["/bin/false"]
    services["kafka"].ready = lambda: False
    with pytest.raises(StackError, match="kafka ended"):
        start_services(services, first, saved.append, lambda _: None)
    assert _alive(services) == {"kafka": 0, "postgres": 1}
    assert saved[-1].postgres == first.postgres


def test_an_interrupt_while_waiting_stops_both(services, saved):
    def interrupted() -> bool:
        raise KeyboardInterrupt

    services["postgres"].ready = interrupted
    with pytest.raises(KeyboardInterrupt):
        start_services(services, NEW, saved.append, lambda _: None)
    assert _alive(services) == {"kafka": 0, "postgres": 0}


@pytest.mark.parametrize("name", ["kafka", "postgres"])
def test_an_interrupt_while_a_process_is_saved_leaves_none_running(services, saved, name):
    def interrupted(state: StackState) -> None:
        if state.service(name).process and not interrupts:
            interrupts.append(name)
            raise KeyboardInterrupt
        saved.append(state)

    interrupts: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        start_services(services, NEW, interrupted, lambda _: None)
    assert services[name].launched
    assert _alive(services) == {"kafka": 0, "postgres": 0}
    assert (saved[-1].kafka.process, saved[-1].postgres.process) == (None, None)


@pytest.mark.parametrize("name", ["kafka", "postgres"])
def test_an_interrupt_just_after_a_launch_leaves_none_running(services, saved, name):
    launch_it = services[name].launch

    def interrupted(ports: Sequence[int], record: Record) -> Process:
        launch_it(ports, record)
        raise KeyboardInterrupt

    services[name].launch = interrupted
    with pytest.raises(KeyboardInterrupt):
        start_services(services, NEW, saved.append, lambda _: None)
    assert services[name].launched
    assert _alive(services) == {"kafka": 0, "postgres": 0}
    assert (saved[-1].kafka.process, saved[-1].postgres.process) == (None, None)


def test_a_service_left_unready_by_a_killed_start_is_waited_for_not_doubled(services, saved):
    process = services["kafka"].launch((), lambda _: None)
    state = NEW.with_service("kafka", ServiceState((20_001, 20_002), "kafka", process, ready=False))
    assert start_services(services, state, saved.append, lambda _: None).kafka.is_running()
    assert len(services["kafka"].launched) == 1


def test_a_service_that_never_answers_is_given_up(services, saved, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack_module, "START_SECONDS", 0.1)
    services["kafka"].ready = lambda: False
    with pytest.raises(StackError, match="kafka does not answer"):
        start_services(services, NEW, saved.append, lambda _: None)
    assert _alive(services) == {"kafka": 0, "postgres": 0}


def test_a_remembered_port_that_is_taken_is_replaced_and_announced(services, saved):
    said: list[str] = []
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        state = NEW.with_service("postgres", ServiceState((taken,), "postgres"))
        moved = start_services(services, state, saved.append, said.append).postgres.ports[0]
    assert moved != taken
    assert f"Port {taken} is taken by another program: postgres moves to port {moved}" in said


def test_a_stop_forgets_processes_and_keeps_ports(services, saved):
    started = start_services(services, NEW, saved.append, lambda _: None)
    stopped = stop_services(services, started, saved.append)
    assert _alive(services) == {"kafka": 0, "postgres": 0}
    assert stopped.all_ports() == started.all_ports()
    assert (stopped.kafka.process, stopped.kafka.ready) == (None, False)


def test_a_stop_of_nothing_is_harmless(services, saved):
    assert stop_services(services, NEW, saved.append) == NEW
