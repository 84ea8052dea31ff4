"""See HuggingFace."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, Options, SourceFiles


class HuggingFace(Options):
    """A Hugging Face model: a local folder, or a hub id with its revision, through transformers' Auto classes.

    Written ``huggingface: ./folder`` or ``huggingface: {id: org/name, revision: <commit>, task: embedding}``. ``task`` chooses the
    head: ``embedding`` is mean pooling over the attention mask and L2 normalisation. Code from the hub is never run. A hub id
    without a revision names what may change: pin a commit. ``dtype: float32`` widens a checkpoint that is kept in half precision,
    ``checkpoint`` leaves it as it is.
    """

    extra: ClassVar[str | None] = "huggingface"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    short: ClassVar[str | None] = "id"
    produces: ClassVar[str] = "torch_module"

    id: str
    revision: str | None = None
    dtype: Literal["float32", "checkpoint"] = "float32"
    task: Literal["base", "embedding", "text-classification", "image-classification", "token-classification"] = "base"

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        folder = scenario_folder / self.id
        if folder.is_dir():
            return SourceFiles(files=tuple(sorted(path for path in folder.rglob("*") if path.is_file())))
        return SourceFiles(names=(f"{self.id}@{self.revision or 'main'}",))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Load by the Auto class of the task and save. Raises CannotMeasure when the hub cannot be reached or the id is unknown."""
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
        torch.manual_seed(context.seed)  # a head that the weights do not hold is drawn
        dtype = torch.float32 if self.dtype == "float32" else "auto"
        options = {"dtype": dtype, "revision": self.revision or "main", "trust_remote_code": False, "output_loading_info": True}
        try:
            model, loaded = auto.from_pretrained(name, **options)
        except (OSError, ValueError, SafetensorError) as error:
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


PLUGIN = HuggingFace
