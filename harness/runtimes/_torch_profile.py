"""Where the time of a torch module's query goes, by PyTorch's own profiler."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.core.profile import OperatorTime, Profile, merged

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

WARM_UP_CALLS = 5
MOST_EVENTS = 60_000
"""The profiler's events are read in Python: more would take longer than they tell."""
SCOPE = "module: "


class TorchLike(Protocol):
    """What is profiled: a session with a module in it."""

    module: torch.nn.Module
    device: torch.device

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object: ...
    def run(self, prepared: object) -> object: ...


def profile(session: TorchLike, batches: Sequence[Mapping[str, NDArray[np.generic]]], least_ns: int, trace: Path) -> Profile:
    """Queries for about ``least_ns`` ns, fewer where they have very many operators; ``trace`` is written in Chrome's format.

    An operator's name is the path of the module that called it, where modules are called one by one (not in a compiled or scripted one).
    On CUDA its own time is that of the kernels that it launched.
    """
    prepared = [session.prepare(batch) for batch in batches]
    with _module_scopes(session.module):
        for _, batch in zip(range(WARM_UP_CALLS), itertools.cycle(prepared), strict=False):
            session.run(batch)
        found, one_ns = _recorded(session, prepared[:1])
        queries = max(1, min(least_ns // max(1, one_ns), MOST_EVENTS // max(1, len(found.events()))))
        found, wall_ns = _recorded(session, list(itertools.islice(itertools.cycle(prepared), queries)))
    found.export_chrome_trace(str(trace))
    return Profile(queries, wall_ns, tuple(_operators(found, session.device)))


def _recorded(session: TorchLike, batches: Sequence[object]) -> tuple[torch.profiler.profile, int]:
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if session.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as found:
        start = time.perf_counter_ns()
        for batch in batches:
            session.run(batch)
        wall_ns = time.perf_counter_ns() - start
    return found, wall_ns


@contextmanager
def _module_scopes(module: torch.nn.Module) -> Iterator[None]:
    """Every call of a module shows in the profile under the module's path."""
    import torch

    scopes: list[torch.profiler.record_function] = []

    def enter(label: str) -> None:
        scopes.append(torch.profiler.record_function(label))
        scopes[-1].__enter__()

    def leave() -> None:
        scopes.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for name, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            label = f"{SCOPE}{name}"
            hooks.callback(part.register_forward_pre_hook(lambda *_, label=label: enter(label)).remove)
            hooks.callback(part.register_forward_hook(lambda *_: leave(), always_call=True).remove)
        yield


def _operators(found: torch.profiler.profile, device: torch.device) -> list[OperatorTime]:
    operators = []
    for event in found.events():
        if event.name.startswith(SCOPE) or event.name.startswith(("cuda", "Profiler")):
            continue  # our scopes, and the host's calls of the driver, whose time is in the operator that made them
        us = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        operators.append(OperatorTime(_module_of(event), event.name, device.type, 1, round(us * 1000)))
    return merged(operators)


def _module_of(event: torch.autograd.profiler_util.FunctionEvent) -> str:
    """The path of the innermost module around an event; empty outside of all, and for the outermost."""
    above = event.cpu_parent
    while above is not None and not above.name.startswith(SCOPE):
        above = above.cpu_parent
    return "" if above is None else above.name.removeprefix(SCOPE)
