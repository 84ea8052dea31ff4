"""Gradient descent as the passes that train share it: what it minimises is handed in, and the best weights on held-out samples stay."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core.errors import CannotMeasure
from harness.passes import _samples

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.core.artifact import Dataset
    from harness.core.plugin import Options

log = logging.getLogger(__name__)

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine", "linear"]
Objective = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""The mean loss of a batch, from the principal output and the rows of the training data that it is the answer to."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train; the passes have these as options and explain them."""

    epochs: int
    steps: int | None
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    weight_decay: float
    schedule: Schedule
    warm_up_steps: int
    clip_norm: float | None
    held_out: float
    patience: int | None
    keep_zeros: bool

    @classmethod
    def of(cls, options: Options) -> Settings:
        """The settings among a pass's options."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})


@contextlib.contextmanager
def own_random_state(seed: int, device: str) -> Iterator[None]:
    """Start torch's generators from a seed (dropout draws from them), and give them back as they were."""
    import torch

    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def train(
    module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], objective: Objective, settings: Settings, *, seed: int, device: str
) -> tuple[str, ...]:
    """Train in place, leave the module in eval mode on the CPU with its best weights, and tell what was done.

    Raises CannotMeasure, naming the step, when the loss is not finite; when nothing can be trained, or training made nothing better.
    """
    with own_random_state(seed, device):
        run = _Run(module.to(device), inputs, objective, settings, seed, device)
        notes = run.go()
    module.eval().cpu()
    for parameter in module.parameters():
        parameter.grad = None
    return notes


class _Run:
    """One training: its split, its optimizer, and the best weights so far."""

    def __init__(
        self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], objective: Objective, settings: Settings, seed: int, device: str
    ) -> None:
        import torch

        self.module, self.inputs, self.objective, self.settings, self.device = module, inputs, objective, settings, device
        self.generator = torch.Generator().manual_seed(seed)
        count = len(next(iter(inputs.values())))
        if count < 2:
            raise CannotMeasure(f"data.training has {count} sample: training needs at least 2")
        order = torch.randperm(count, generator=self.generator)
        held = min(max(1, round(settings.held_out * count)), count - 1) if settings.held_out else 0
        self.held, self.rows = order[:held], order[held:]
        self.batch_size = min(settings.batch_size, len(self.rows))
        self.an_epoch = len(self.rows) // self.batch_size
        self.total = settings.steps or settings.epochs * self.an_epoch
        self.trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not self.trained:
            raise CannotMeasure("every parameter of this module is frozen (requires_grad is false): there is nothing to train")
        self.masks = _masks(module) if settings.keep_zeros else {}

    def go(self) -> tuple[str, ...]:
        settings = self.settings
        optimizer, schedule = self._optimizer()
        first = best = self._held_out_loss(0)
        kept, kept_epoch, step, epoch = self._weights(), 0, 0, 0
        while step < self.total:
            epoch += 1
            losses = []
            for rows in self._batches()[: self.total - step]:
                step += 1
                losses.append(self._step(rows, step, optimizer, schedule))
            held = self._held_out_loss(step)
            told = "" if held is None else f", held-out loss {held:.4g}"
            log.info("epoch %d, step %d of %d: loss %.4g%s", epoch, step, self.total, sum(losses) / len(losses), told)
            if held is None or best is None or held < best:
                best, kept, kept_epoch = held, self._weights(), epoch
            elif settings.patience is not None and epoch - kept_epoch >= settings.patience:
                break
        if not kept_epoch:
            hint = "lower 'learning_rate', or train longer with a higher 'patience'"
            raise CannotMeasure(f"training made nothing better: the held-out loss was {first:.4g} before and never lower after", hint=hint)
        self.module.load_state_dict(kept)
        notes = [f"{step} steps of {self.batch_size} samples ({epoch} epochs of {len(self.rows)}), {settings.optimizer}"]
        if best is not None:
            notes.append(
                f"held-out loss {first:.4g} before, {best:.4g} after epoch {kept_epoch}, whose weights are kept ({len(self.held)} samples)"
            )
        if step < self.total:
            notes.append(f"stopped early: {settings.patience} epochs brought nothing better")
        if self.masks:
            frozen = sum(int((~mask).sum()) for mask in self.masks.values())
            notes.append(f"{frozen:,} zeros in {len(self.masks)} weights were kept at zero")
        return tuple(notes)

    def _optimizer(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        import torch

        settings = self.settings
        if settings.optimizer == "adamw":
            optimizer = torch.optim.AdamW(self.trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        else:
            optimizer = torch.optim.SGD(self.trained, lr=settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, self.total, settings))

    def _batches(self) -> Sequence[torch.Tensor]:
        """The rows of an epoch in a new order, in full batches: what is left over has its turn in another epoch."""
        import torch

        order = self.rows[torch.randperm(len(self.rows), generator=self.generator)]
        batches: Sequence[torch.Tensor] = order[: self.an_epoch * self.batch_size].split(self.batch_size)
        return batches

    def _step(self, rows: torch.Tensor, step: int, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR) -> float:
        import torch

        self.module.train()
        with torch.enable_grad():
            loss = self._loss(rows)
            value = float(loss.detach())
            if not math.isfinite(value):
                hint = "lower 'learning_rate', or set 'clip_norm'"
                raise CannotMeasure(f"the loss is {value} in training step {step} of {self.total}", hint=hint)
            if not loss.requires_grad:
                raise CannotMeasure("the loss does not depend on any parameter: the model computes without gradients")
            optimizer.zero_grad()
            loss.backward()
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip_norm)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for name, mask in self.masks.items():
                self.module.get_parameter(name).mul_(mask)
        return value

    def _held_out_loss(self, step: int) -> float | None:
        """The mean over the held-out samples; None where there are none."""
        import torch

        if not len(self.held):
            return None
        self.module.eval()
        with torch.no_grad():
            value = sum(float(self._loss(rows)) * len(rows) for rows in self.held.split(self.settings.batch_size)) / len(self.held)
        if not math.isfinite(value):
            raise CannotMeasure(f"the held-out loss is {value} after training step {step} of {self.total}", hint="lower 'learning_rate'")
        return value

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        batch = {name: values[rows].to(self.device) for name, values in self.inputs.items()}
        return self.objective(_samples.principal(self.module, batch), rows)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}


def factor(step: int, total: int, settings: Settings) -> float:
    """What the learning rate is multiplied by in a step counted from 0: a linear warm-up, then the schedule down to zero after the last."""
    warm_up = settings.warm_up_steps
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, total - warm_up)
    return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * min(done, 1.0))) / 2}[settings.schedule]


def _masks(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Where the weights (not biases or norms) that a pass has pruned are not zero. One that is zero throughout was not pruned so."""
    found = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2 and 0 < int((parameter == 0).sum()) < parameter.numel():
            found[name] = (parameter != 0).detach()
    return found


def seen_before(training: Dataset, evaluation: Dataset) -> tuple[str, ...]:
    """A warning for people when evaluation samples are among those that are trained on."""
    known = set(_keys(training.inputs))
    count = sum(key in known for key in _keys(evaluation.inputs))
    return (
        (f"{count} of {evaluation.count} evaluation samples are in the training data: the model may know them by heart",) if count else ()
    )


def _keys(inputs: Mapping[str, NDArray[np.generic]]) -> Iterator[bytes]:
    columns = [inputs[name] for name in sorted(inputs)]
    return (b"".join(column[row].tobytes() for column in columns) for row in range(len(columns[0])))
