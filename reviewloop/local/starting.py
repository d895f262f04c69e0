"""Starting and stopping the services of a stack together: all of them, or none that was not there before."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reviewloop.local.errors import StackError
from reviewloop.local.ports import free_port, is_free
from reviewloop.local.process import Process, Say, last_lines, stop
from reviewloop.local.service import Service
from reviewloop.local.state import ServiceState, StackState

START_SECONDS = 120.0
_POLL_SECONDS = 0.03
_RETRY_SECONDS = 1.0

Save = Callable[[StackState], None]


class _Ended(StackError):
    """A service ended before it was ready."""


def start_services(services: Mapping[str, Service], state: StackState, save: Save, say: Say) -> StackState:
    """Launch those of `services` that are not alive, and wait until all of them are ready.

    Args:
        services: By their names in `state`.
        state: Of the stack; a service that lives but was never ready is waited for like a new one.
        save: Keeps each new state before the next step, so that no process is ever forgotten.
        say: Told what longer steps do.

    Raises:
        StackError: One of them could not be prepared, ended, or did not get ready in time. Those that
            were not ready before are stopped again then.
    """
    unready = [name for name in services if not state.service(name).is_running()]
    idle = [name for name in unready if not state.service(name).is_alive()]
    if idle:
        with ThreadPoolExecutor(len(idle)) as pool:
            list(pool.map(lambda name: services[name].prepare(say), idle))
    newest = state

    def keep(made: StackState) -> None:
        nonlocal newest
        newest = made  # first, so that an interrupt while it is saved finds the process in it
        save(made)

    try:
        for name in idle:
            state = _launch(services[name], name, state, keep, say)
        for name in services:
            try:
                state = _await(services[name], name, state, keep)
            except _Ended:
                # Its port was taken in the last moment, or what a killed server left behind was not gone yet.
                say(f"{services[name].name} ended while it started: trying once more")
                time.sleep(_RETRY_SECONDS)
                state = _launch(services[name], name, state, keep, say)
                state = _await(services[name], name, state, keep)
    except BaseException:  # an interrupt leaves no half-started stack either
        stop_services({name: services[name] for name in unready}, newest, save)
        raise
    return state


def stop_services(services: Mapping[str, Service], state: StackState, save: Save) -> StackState:
    """Stop `services`, both at once, and forget their processes."""

    def end(name: str) -> None:
        process = state.service(name).process
        if process:
            stop(process, services[name].stop_signals, grace_seconds=services[name].stop_seconds)

    if services:
        with ThreadPoolExecutor(len(services)) as pool:
            list(pool.map(end, services))
    for name in services:
        state = state.with_service(name, replace(state.service(name), process=None, ready=False))
    save(state)
    return state


def _launch(service: Service, name: str, state: StackState, save: Save, say: Say) -> StackState:
    ports = _free_ports(service, state.service(name), state.all_ports(), say)
    say(f"Starting {service.name}")

    def launched(process: Process) -> StackState:
        return state.with_service(
            name, replace(state.service(name), ports=ports, process=process, ready=False)
        )

    return launched(service.launch(ports, lambda process: save(launched(process))))


def _await(service: Service, name: str, state: StackState, save: Save) -> StackState:
    current = state.service(name)
    deadline = time.monotonic() + START_SECONDS
    while True:
        ready = current.process is not None and service.is_ready(current.ports, current.process)
        if not current.is_alive():  # asked second: what answered may have been another program on that port
            raise _Ended(f"{service.name} ended while it started; {_end_of_log(service)}")
        if ready:
            break
        if time.monotonic() > deadline:
            raise StackError(
                f"{service.name} does not answer within {START_SECONDS:.0f} seconds; {_end_of_log(service)}"
            )
        time.sleep(_POLL_SECONDS)
    if not current.ready:
        state = state.with_service(name, replace(current, ready=True))
        save(state)
    return state


def _end_of_log(service: Service) -> str:
    return f"the end of {service.log}:\n{last_lines(service.log)}"


def _free_ports(service: Service, current: ServiceState, taken: Sequence[int], say: Say) -> tuple[int, ...]:
    """The remembered ports, each replaced where it was never chosen or another program has it now."""
    chosen: list[int] = []
    for port in current.ports:
        if port and is_free(port):
            chosen.append(port)
            continue
        chosen.append(free_port({*taken, *chosen}))
        if port:
            say(f"Port {port} is taken by another program: {service.name} moves to port {chosen[-1]}")
    return tuple(chosen)
