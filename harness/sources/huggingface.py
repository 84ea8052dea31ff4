"""See HuggingFace."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles

KEY = "model.huggingface"


class HuggingFace(Options):
    """A Hugging Face model: a local folder, or a hub id with its revision, through transformers' Auto classes.

    Written ``huggingface: ./folder`` or ``huggingface: {id: org/name, revision: <commit>, task: embedding}``. ``task`` chooses the
    head: ``embedding`` is mean pooling over the attention mask and L2 normalisation. A hub id without a revision names what may change: pin
    a commit. ``dtype: float32`` widens a checkpoint that is kept in half precision, ``checkpoint`` leaves it as it is. Weights are read as
    weights alone. Code that comes with the model (``auto_map`` in its config.json) is run only where ``trust_remote_code: true`` stands
    here and the command line says ``--trust-remote-code``; of a hub id it is that of ``revision``, which then is a whole commit.
    """

    extra: ClassVar[str | None] = "huggingface"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    short: ClassVar[str | None] = "id"
    produces: ClassVar[str] = "torch_module"

    id: str
    revision: str | None = None
    dtype: Literal["float32", "checkpoint"] = "float32"
    task: Literal["base", "embedding", "text-classification", "image-classification", "token-classification"] = "base"
    trust_remote_code: bool = Field(False, strict=True)

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Baselines from before there was the switch keep their content digest."""
        return {name: value for name, value in dump(self).items() if name != "trust_remote_code" or value}

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        folder = scenario_folder / self.id
        if folder.is_dir():
            return SourceFiles(files=tuple(sorted(path for path in folder.rglob("*") if path.is_file())))
        return SourceFiles(names=(f"{self.id}@{self.revision or 'main'}",))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Load by the Auto class of the task and save.

        Raises CannotMeasure when the hub cannot be reached or the id is unknown, BadInput for code that is not to be run.
        """
        from harness import plugins
        from harness.formats import torch_module

        plugins.require("torch", plugin="huggingface", extra="huggingface")
        plugins.require("transformers", plugin="huggingface", extra="huggingface")
        import torch
        import transformers
        from safetensors import SafetensorError

        auto = {
            "base": transformers.AutoModel,
            "embedding": transformers.AutoModel,
            "text-classification": transformers.AutoModelForSequenceClassification,
            "image-classification": transformers.AutoModelForImageClassification,
            "token-classification": transformers.AutoModelForTokenClassification,
        }[self.task]
        folder = context.scenario_folder / self.id
        name = str(folder) if folder.is_dir() else self.id
        self._check_trust(is_folder=folder.is_dir(), allowed=context.remote_code)
        torch.manual_seed(context.seed)  # a head that the weights do not hold is drawn
        dtype = torch.float32 if self.dtype == "float32" else "auto"
        options = {
            "dtype": dtype,
            "revision": self.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            "weights_only": True,
            "output_loading_info": True,
        }
        try:
            model, loaded = auto.from_pretrained(name, **options)
        except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
            if "trust_remote_code" in str(error):  # what transformers tells the user to pass
                raise _needs_code(self.id) from error
            if isinstance(error, UnpicklingError):
                hint = "save it again as safetensors, on a machine where you trust it"
                raise BadInput(
                    Problem(f"the weights of '{self.id}' are a pickle that holds more than weights", key=KEY, hint=hint)
                ) from error
            where = "in this folder" if folder.is_dir() else "on the hub, or the hub cannot be reached"
            hint = "give a local folder with config.json and weights, or check the id, the revision and the network"
            raise CannotMeasure(f"no model '{self.id}' {where}: {str(error).splitlines()[0]}", hint=hint) from error
        if self.task == "embedding":
            from harness.formats.embedding import Embedding

            model = Embedding(model)
        count = sum(parameter.numel() for parameter in model.parameters())
        notes = [f"{count:,} parameters"]
        if drawn := sorted(loaded["missing_keys"]):
            notes.append(f"not in the weights and drawn at random: {', '.join(drawn[:5])}{' ...' if len(drawn) > 5 else ''}")
        step = AppliedStep("huggingface", self.model_dump_json(), tuple(notes))
        return torch_module.save(model, context.folder, example=context.data("evaluation"), root=context.root, steps=(step,))

    def _check_trust(self, *, is_folder: bool, allowed: bool) -> None:
        if not self.trust_remote_code:
            return
        if not allowed:
            raise _needs_code(self.id)
        if not is_folder and not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            message = f"'{self.id}' is to run code from a hub, and its revision is no commit: what runs could change from day to day"
            raise BadInput(Problem(message, key=f"{KEY}.revision", hint="write the 40 hex digits of the commit whose code you have read"))


def _needs_code(name: str) -> BadInput:
    message = f"'{name}' needs code that comes with it, which is not run unless the scenario and the command line both say so"
    hint = f"read that code; then write 'trust_remote_code: true' under {KEY} and give --trust-remote-code"
    return BadInput(Problem(message, key=KEY, hint=hint))


PLUGIN = HuggingFace
