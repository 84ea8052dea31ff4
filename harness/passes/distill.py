"""See Distill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, JsonValue

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, DataRole, Options, SourceFiles
from harness.passes import _losses, _pruning, _samples, _training
from harness.passes._training import Objective, Optimizer, Schedule

if TYPE_CHECKING:
    import torch


class Distill(Options):
    """Train a smaller model of the project's own to answer as this one does, and go on with it.

    Written ``distill: models/small.py:build``, or with options ``{student: models/small.py:build, args: {width: 8}}``: a function that
    returns a torch.nn.Module with the same inputs and the same shape of output. ``loss: kl`` compares class probabilities softened by
    ``temperature`` and adds the cross entropy of the labels with ``hard_weight`` where there are labels (Hinton et al. 2015); ``mse``
    compares the outputs themselves; ``auto`` takes kl where the targets are class numbers. The other options are those of finetune.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    short: ClassVar[str | None] = "student"
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    student: str
    args: dict[str, JsonValue] = Field(default_factory=dict)
    loss: Literal["auto", "kl", "mse"] = "auto"
    temperature: float = Field(4.0, gt=0)
    hard_weight: float = Field(0.5, ge=0, lt=1)
    epochs: int = Field(20, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    optimizer: Optimizer = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    schedule: Schedule = "cosine"
    warm_up_steps: int = Field(0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    held_out: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(5, ge=1)
    keep_zeros: bool = False

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        """The student's code, which is followed through its imports."""
        return SourceFiles(code=(scenario_folder / self.student.rpartition(":")[0],))

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Train the student and keep its best weights.

        Raises BadInput when the student is no module or does not answer in the teacher's shape; CannotMeasure as finetune does.
        """
        data, example = context.data("training"), context.data("evaluation")
        student = self._student(artifact, context, example)  # first: what it imports is the project's code, not the teacher's copy of it
        inputs = _samples.inputs_of(data, artifact, "training")
        answers, before = self._teach(artifact, context, inputs)
        after = _pruning.parameters(student)
        objective, how = self._objective(answers, _samples.targets_of(data))
        settings = _training.Settings.of(self)
        notes = _training.train(student, inputs, objective, settings, seed=context.seed, device=context.device)
        told = (f"teacher {before:,} parameters, student {after:,} ({after / max(1, before):.1%})", how)
        step = AppliedStep("distill", self.model_dump_json(), (*told, *notes, *_training.seen_before(data, example)))
        from harness.formats import torch_module

        return torch_module.save(student, context.folder, example=example, root=context.root, steps=(*artifact.steps, step))

    def _student(self, artifact: ModelArtifact, context: BuildContext, example: Dataset) -> torch.nn.Module:
        from harness import plugins
        from harness.formats import user_code

        plugins.require("torch", plugin="distill", extra="torch")
        import torch

        file, _, name = self.student.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            hint = "write 'file.py:function', the file relative to the scenario"
            raise BadInput(Problem(f"'{self.student}' is not a factory", key="distill.student", hint=hint))
        if not (context.scenario_folder / file).resolve().is_relative_to(context.root.resolve()):
            hint = f"files of a scenario stay inside {context.root}"
            raise BadInput(Problem(f"'{file}' lies outside the project", key="distill.student", hint=hint))
        with _training.own_random_state(context.seed, context.device):
            student = user_code.call_factory(self.student, folder=context.scenario_folder, root=context.root, args=self.args)
            if not isinstance(student, torch.nn.Module):
                message = f"{self.student} returned {type(student).__name__}, a torch.nn.Module is needed"
                raise BadInput(Problem(message, key="distill.student"))
            answers = _samples.answers(student.eval(), _samples.take(_samples.inputs_of(example, artifact, "evaluation"), slice(2)), 2)
        wanted = artifact.outputs[0].shape[1:]
        if tuple(answers.shape[1:]) != wanted:
            message = f"the student answers {list(answers.shape[1:])} to a sample, and the teacher {list(wanted)}"
            raise BadInput(Problem(message, key="distill.student", hint="both have outputs of one shape"))
        return student

    def _teach(self, artifact: ModelArtifact, context: BuildContext, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """The teacher's answers to all training samples, once, and how many parameters it has."""
        import torch

        teacher = _pruning.open_float("distill", artifact)
        there = {name: values.to(context.device) for name, values in inputs.items()}
        answers = _samples.answers(teacher.to(context.device), there, self.batch_size)
        if not torch.isfinite(answers).all():
            raise CannotMeasure("the teacher answers NaN or infinity to training samples")
        return answers, _pruning.parameters(teacher)

    def _objective(self, answers: torch.Tensor, targets: torch.Tensor | None) -> tuple[Objective, str]:
        """The loss of a batch against the teacher's answers, which are all known before the first step."""
        from torch.nn import functional

        if self.loss == "kl" and (answers.ndim < 2 or answers.shape[-1] < 2):
            raise CannotMeasure(f"'loss: kl' compares classes, and the teacher answers {list(answers.shape)}", hint="use 'loss: mse'")
        whole = (
            targets is not None and not targets.dtype.is_floating_point and targets.shape == answers.shape[:-1] and answers.shape[-1] > 1
        )
        if self.loss == "mse" or (self.loss == "auto" and not whole):
            return lambda given, rows: functional.mse_loss(
                given.float(), answers[rows.to(answers.device)].float()
            ), "loss: mse to the teacher"
        labels = targets if whole else None
        hard = self.hard_weight if labels is not None else 0.0
        if labels is not None:
            _losses.check_labels("cross_entropy", answers.shape[-1], labels)
        heat = self.temperature

        def objective(given: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            # Hinton, Vinyals and Dean 2015, section 2: the factor T^2 keeps soft gradients as large as hard ones when T changes.
            cool = functional.log_softmax(given.float().flatten(0, -2) / heat, dim=-1)
            wanted = functional.log_softmax(answers[rows.to(answers.device)].float().flatten(0, -2) / heat, dim=-1)
            soft = functional.kl_div(cool, wanted, reduction="batchmean", log_target=True) * heat**2
            if labels is None:
                return soft
            return hard * _losses.mean("cross_entropy", given, labels[rows].to(given.device)) + (1 - hard) * soft

        told = f"{hard:g} of it on the labels" if hard else "without labels"
        return objective, f"loss: kl to the teacher at temperature {heat:g}, {told}"


PLUGIN = Distill
