"""Where the time goes: one arm, or two beside each other, each under its runtime's own profiler. No verdict is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.profile import Profile
from harness.engine import protocol
from harness.engine.workers import THIS_PYTHON, Seat, Worker

if TYPE_CHECKING:
    from harness.engine.procedure import Procedure
    from harness.engine.protocol import Subject

LEAST_NS = 500_000_000
TURNS = ("baseline", "candidate", "candidate", "baseline")
"""A slow drift of the machine, or who comes first, falls on both alike."""
SLOWER_UNDER_A_PROFILER = 20
"""How many times longer than without it a profile may take before it is called hung."""


def profile_arms(
    arms: Mapping[str, Subject], procedure: Procedure, folder: Path, *, turns: Sequence[str] = TURNS, least_ns: int = LEAST_NS
) -> dict[str, Profile]:
    """A profile of each arm, from a process of its own for each of its turns; their traces are left in ``folder`` as ARM-N.json.

    Two processes import their frameworks together, and are profiled one after the other. Empty where a runtime has no profiler. Raises
    WorkerFailed when a worker does not answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Profile] = {}
    numbered = list(enumerate(arm for arm in turns if arm in arms))
    for first in range(0, len(numbered), 2):
        with ExitStack() as stack:
            workers = [
                (number, arm, stack.enter_context(_seated(arms[arm], arm, number, procedure)))
                for number, arm in numbered[first : first + 2]
            ]
            for _, _, worker in workers:
                worker.answer(protocol.Done, timeout_s=procedure.timeout_s)
            for number, arm, worker in workers:
                request = protocol.TakeProfile(least_ns, (folder / f"{arm}-{number}.json").absolute())
                timeout_s = procedure.timeout_s + SLOWER_UNDER_A_PROFILER * least_ns / 1e9
                profile = worker.ask(request, protocol.Profiled, timeout_s=timeout_s).profile
                if profile is None:
                    return {}
                found[arm] = found[arm].with_more(profile) if arm in found else profile
    return found


@contextmanager
def _seated(subject: Subject, arm: str, number: int, procedure: Procedure) -> Iterator[Worker]:
    """A worker that has been told to import what an arm needs."""
    seat = Seat(
        role=f"profile of the {arm}",
        cores=subject.cores,
        threads=subject.threads,
        log=procedure.logs / f"profile-{arm}-{number}.log",
        python=procedure.pythons.get(arm, THIS_PYTHON),
    )
    with Worker(seat) as worker:
        worker.tell(protocol.Preload(subject))
        yield worker
