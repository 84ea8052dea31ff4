"""How workers are started: forked from a template process where that is safe, else spawned.

A template lives for a few launch pairs. Everything forked from one shares the addresses of its libraries, and a result that held under one
layout only would be an artefact: the pairs that confirm a suspicion come from other templates than those that raised it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from types import TracebackType

from pydantic import TypeAdapter

from harness.engine.protocol import Subject
from harness.engine.workers import Process, Seat, Start, environment_of, spawn

log = logging.getLogger(__name__)
PAIRS_OF_A_TEMPLATE = 5
"""Launch pairs forked from one template; then its libraries have been at the same addresses for long enough."""
IMPORT_TIMEOUT_S = 120.0
MESSAGE_BYTES = 1 << 16
_SUBJECTS: TypeAdapter[list[Subject]] = TypeAdapter(list[Subject])


class TemplateFailed(Exception):
    """A template did not come up, or has gone."""


@dataclass(slots=True)
class Template:
    """A template process and what is left of its life. As a ``Start`` it forks workers."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    pairs_left: int = PAIRS_OF_A_TEMPLATE
    asked: int = 0

    def __call__(self, seat: Seat, connection: int, out: int) -> Process:
        try:
            reply = self.ask({"do": "fork", "threads": seat.threads}, (connection, out))
        except TemplateFailed as error:
            log.warning("a launch is spawned: its template has gone (%s)", error)
            return spawn(seat, connection, out)
        return ForkedWorker(reply["pid"], os.pidfd_open(reply["pid"]), self)

    def ask(self, request: Mapping[str, object], descriptors: Sequence[int] = ()) -> dict[str, int]:
        self.asked = number = self.asked + 1
        found: dict[str, int] = {}
        try:
            socket.send_fds(self.socket, [json.dumps({**request, "number": number}).encode()], descriptors)
            while found.get("number") != number:  # Ctrl-C in the middle of an earlier request has left its reply here
                reply = self.socket.recv(MESSAGE_BYTES)
                if not reply:
                    raise TemplateFailed("it has ended")
                found = json.loads(reply)
        except OSError as error:
            raise TemplateFailed(str(error)) from error
        return found

    def end(self) -> None:
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class ForkedWorker:
    """A worker that a template has forked: the template is its parent and tells its exit code."""

    pid: int
    descriptor: int
    template: Template
    _code: int | None = None

    @property
    def template_pid(self) -> int:
        return self.template.process.pid

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            ready, _, _ = select.select([self.descriptor], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            try:
                self._code = self.template.ask({"do": "wait", "pid": self.pid})["code"]
            except TemplateFailed:
                self._code = -signal.SIGKILL  # it took its workers with it
            os.close(self.descriptor)
        return self._code


@dataclass(slots=True)
class Launcher:
    """Starts the workers of a job's launch pairs, as a context manager: no template outlives it.

    ``fork`` False spawns every worker. A group of subjects whose template refused once is spawned from then on.
    """

    fork: bool = True
    _templates: dict[tuple[object, ...], Template] = field(default_factory=dict)
    _refused: set[tuple[object, ...]] = field(default_factory=set)

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for template in self._templates.values():
            template.end()
        self._templates.clear()

    def starts(self, arms: Mapping[str, Subject], seats: Mapping[str, Seat]) -> dict[str, Start]:
        """How each arm of the next launch pair is started, when the pair before is over: all from one template, or all spawned.

        Forked processes differ from spawned ones in what they share, and two templates in their addresses: neither may lie between arms.
        An arm alone is spawned: its launches are to be independent of each other.
        """
        self._end_what_is_used_up()
        return dict.fromkeys(arms, self._start_of(arms, list(seats.values())))

    def _end_what_is_used_up(self) -> None:
        for key, template in list(self._templates.items()):
            if template.pairs_left <= 0 or template.process.poll() is not None:
                self._templates.pop(key).end()

    def _start_of(self, arms: Mapping[str, Subject], seats: Sequence[Seat]) -> Start:
        subjects = list({repr(subject): subject for subject in arms.values()}.values())
        seat = seats[0]
        key = (seat.python, seat.cores, seat.threads, *sorted(map(repr, subjects)))
        if not self._may_fork(subjects, seats) or key in self._refused:
            return spawn
        template = self._templates.get(key)
        if template is None:
            try:
                template = self._templates[key] = _start_template(subjects, seat)
            except TemplateFailed as error:
                log.info("launches of %s are spawned: %s", ", ".join(sorted(arms)), error)
                self._refused.add(key)
                return spawn
        template.pairs_left -= 1
        return template

    def _may_fork(self, subjects: Sequence[Subject], seats: Sequence[Seat]) -> bool:
        if not self.fork or len(seats) < 2 or any(subject.device != "cpu" for subject in subjects):
            return False
        alike = len({(seat.python, seat.cores, seat.threads) for seat in seats}) == 1
        # A runtime of the user's own may import its neighbours: in one process those of one folder would be taken for the other's.
        folders = {subject.scenario_folder for subject in subjects if subject.runtime.name.endswith(".py")}
        return alike and len(folders) <= 1 and _has_pidfd()


@cache
def _has_pidfd() -> bool:
    """Whether the end of a process that is not our child can be waited for (Linux 5.3)."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _start_template(subjects: Sequence[Subject], seat: Seat) -> Template:
    """Raises TemplateFailed when it cannot be forked from, or does not answer within two minutes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        seat.log.parent.mkdir(parents=True, exist_ok=True)
        out = seat.log.with_suffix(".template.log").open("ab")
    except OSError as error:
        raise TemplateFailed(f"{seat.log.parent} cannot be written: {error}") from error
    with ExitStack() as undo:
        undo.callback(ours.close)
        with theirs, out:
            variables = environment_of(replace(seat, padding_bytes=random.SystemRandom().randrange(4096)))
            process = subprocess.Popen(
                [str(seat.python), "-P", "-m", "harness.engine.template", str(theirs.fileno()), ",".join(map(str, seat.cores))],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[theirs.fileno()],
                env={**variables, "OPENBLAS_NUM_THREADS": "1"},  # its threads are started by the import of numpy
                start_new_session=True,
            )
        template = Template(process, ours)
        undo.callback(template.end)
        try:
            ours.send(_SUBJECTS.dump_json(list(subjects)))
            ours.settimeout(IMPORT_TIMEOUT_S)
            answer = ours.recv(MESSAGE_BYTES)
        except OSError as error:
            raise TemplateFailed(f"the template did not answer: {error}") from error
        if refusal := json.loads(answer)["refusal"] if answer else "the template ended while it imported":
            raise TemplateFailed(refusal)
        undo.pop_all()
        return template
