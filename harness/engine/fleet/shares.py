"""Which trials go to a fleet, and what belongs together on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.fleet import Node, labels_told
from harness.core.plan import SkippedTrial, Trial
from harness.core.scenario import HardwareTarget


@dataclass(frozen=True, slots=True)
class Share:
    """The trials of one scenario for one target. They are measured on one machine, however many would fit: recipes are compared with each
    other and with their reference, and two machines of one kind are not one machine."""

    trials: tuple[Trial, ...]

    @property
    def name(self) -> str:
        """Fit for a file name: ``digits-resnet50-edge``."""
        return f"{self.trials[0].scenario}-{self.target.name}"

    @property
    def target(self) -> HardwareTarget:
        return self.trials[0].target

    def fits(self, node: Node) -> bool:
        """Whether a node has the target's labels, cores and kind of device; the rest of what it must have the node itself can see."""
        wanted = max(self.target.cores or 0, self.target.requires.cores or 0)
        gpus = 0 if self.target.device == "cpu" else 1
        return has_labels(self.target.labels, node.labels) and node.cpus >= wanted and node.gpus >= gpus

    def told(self) -> str:
        """What it asks of a node: ``labels hw=edge, 4 cores``."""
        cores = max(self.target.cores or 0, self.target.requires.cores or 0)
        parts = [f"labels {labels_told(self.target.labels)}", f"{cores} core{'s' * (cores != 1)}" if cores else "", self.target.device]
        return ", ".join(part for part in parts if part and part != "cpu")


def has_labels(wanted: Mapping[str, str], given: Mapping[str, str]) -> bool:
    return all(given.get(name) == value for name, value in wanted.items())


def shares_of(skipped: Sequence[SkippedTrial]) -> tuple[Share, ...]:
    """The trials whose target names labels, in their order."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for item in skipped:
        if item.trial.target.labels:
            groups.setdefault((item.trial.scenario, item.trial.target.name), []).append(item.trial)
    return tuple(Share(tuple(trials)) for trials in groups.values())
