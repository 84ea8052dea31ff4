"""Sends shares to nodes, one at a time on each, and keeps what comes back; a share whose node is lost goes to another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.core.errors import BadInput, HarnessError
from harness.core.fleet import Fleet, Node, NodeLost
from harness.engine.fleet.order import Done, Event, Journal, Refused, Step, read_event

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.engine.fleet.shares import Share

log = logging.getLogger(__name__)
PATIENCE_S = 30.0
"""What a node may take to end its work when everything is stopped."""


class Keeper(Protocol):
    """Writes down what nodes send, and knows what is asked of them. ``lines`` gives how many launches they tell of."""

    def order(self, share: Share, node: Node) -> tuple[bytes, bytes]: ...
    def lines(self, share: Share, node: Node, text: str) -> int: ...
    def done(self, share: Share, node: Node, archive: bytes) -> None: ...


@dataclass(slots=True)
class Fate:
    """What became of a share: the node that measured it, or why none did. ``losses`` are sentences, one for each node that failed."""

    share: Share
    node: Node | None = None
    losses: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Ended:
    error: str | None


def send_shares(fleet: Fleet, shares: Sequence[Share], keeper: Keeper, progress: Progress, *, retries: int) -> list[Fate]:
    """Measure every share on a node that fits it; each node has one at a time. A share that fails on a node goes to another, at most
    ``retries`` times. However it ends, nothing is left running on the fleet."""
    dispatch = _Dispatch(fleet, keeper, progress, retries)
    try:
        return dispatch.run(shares)
    finally:
        dispatch.end()


class _Dispatch:
    """``threads`` listen to a node each; everything else happens in the thread that called."""

    def __init__(self, fleet: Fleet, keeper: Keeper, progress: Progress, retries: int) -> None:
        self.fleet, self.keeper, self.progress, self.retries = fleet, keeper, progress, retries
        self.heard: queue.Queue[tuple[Node, Event | _Ended]] = queue.Queue()
        self.busy: dict[str, Fate] = {}
        self.launches: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def run(self, shares: Sequence[Share]) -> list[Fate]:
        fates = [Fate(share) for share in shares]
        waiting = list(fates)
        while waiting or self.busy:
            waiting = self.start(waiting)
            if not self.busy:
                break
            node, event = self.heard.get()
            if isinstance(event, _Ended):
                fate = self.busy.pop(node.id)
                if fate.node is None and not self.failed(fate, node, event.error or "it ended before its work was done"):
                    waiting.append(fate)
            else:
                self.hear(self.busy[node.id], node, event)
        return fates

    def start(self, waiting: Sequence[Fate]) -> list[Fate]:
        """Give free nodes work. Those stay that wait for a busy node; the others learn that no node is left for them."""
        nodes = self.fleet.nodes()
        stay = []
        for fate in waiting:
            fitting = [node for node in nodes if fate.share.fits(node) and node.id not in fate.tried]
            free = next((node for node in fitting if node.id not in self.busy), None)
            if free is not None:
                self.give(fate, free)
            elif fitting:
                stay.append(fate)
            else:
                there = "; ".join(map(str, nodes)) or "none"
                none = f"no {'other ' if fate.losses else ''}node of the fleet has {fate.share.told()} (nodes: {there})"
                fate.reason = ", and ".join([*fate.losses, none])
        return stay

    def give(self, fate: Fate, node: Node) -> None:
        self.busy[node.id] = fate
        self.launches[node.id] = 0
        fate.tried.add(node.id)
        order, project = self.keeper.order(fate.share, node)
        self.progress.step(f"{fate.share.name}: starts on {node.name}")
        thread = threading.Thread(target=self.listen, args=(node, order, project), name=f"node {node.name}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def listen(self, node: Node, order: bytes, project: bytes) -> None:
        """In a thread of its own, until the node has ended."""
        error: str | None = None
        try:
            for line in self.fleet.measure(order, project, node):
                self.heard.put((node, read_event(line)))
        except (NodeLost, HarnessError, ValueError) as found:
            error = " ".join(str(found).split())
        finally:
            self.heard.put((node, _Ended(error)))

    def hear(self, fate: Fate, node: Node, event: Event) -> None:
        match event:
            case Step(text):
                self.progress.step(f"{text} [{node.name}]")
            case Journal(lines):
                self.launches[node.id] += self.keeper.lines(fate.share, node, lines)
            case Refused(message):
                fate.losses.append(f"node {node.name} did not measure: {message}")
            case Done(archive):
                try:
                    self.keeper.done(fate.share, node, archive)
                except BadInput as error:
                    fate.losses.append(f"node {node.name} did not send a whole run: {' '.join(str(error).split())}")
                else:
                    fate.node = node

    def failed(self, fate: Fate, node: Node, why: str) -> bool:
        """Note a loss; True when the share has been tried as often as it may be."""
        if not fate.losses or not fate.losses[-1].startswith(f"node {node.name} did not"):
            count = self.launches[node.id]
            wanted = sum(trial.source.scenario.measure.launches for trial in fate.share.trials)
            fate.losses.append(f"node {node.name} was lost after {count} of {wanted} launches ({why})")
        log.warning("%s: %s", fate.share.name, fate.losses[-1])
        self.progress.step(f"{fate.share.name}: {fate.losses[-1]}")
        if len(fate.tried) > self.retries:
            fate.reason = f"{', and '.join(fate.losses)}; it was tried on {len(fate.tried)} nodes, which --retries {self.retries} allows"
            return True
        return False

    def end(self) -> None:
        if self.busy:
            self.fleet.stop()
        for thread in self.threads:
            thread.join(PATIENCE_S)
