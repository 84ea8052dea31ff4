"""See FakeModel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.plugin import BuildContext, Options, SourceFiles
from harness.formats.files import digest_of, size_of


class FakeModel(Options):
    """A model that only takes a known time, for the ``fake`` runtime: to try the gate, and for tests.

    ``latency_us`` is busy work of a query; ``jitter`` its relative spread; ``classes`` the outputs' width; ``wrong`` the share of
    samples that it answers wrongly; ``unsteady_answers`` the share that it answers by chance, another one each time it is asked;
    ``size_bytes`` its file's size. ``fail_at`` provokes one failure at that query of a launch:
    ``failure`` is exception, kill, exit, hang or nan. ``fills`` names a device that has room for one such model at a time: a second one is
    out of memory.
    """

    produces: ClassVar[str] = "fake"

    latency_us: float = 200.0
    jitter: float = 0.0
    classes: int = 10
    wrong: float = 0.0
    unsteady_answers: float = 0.0
    size_bytes: int = 1024
    memory_mib: int = 0
    fills: str | None = None
    fail_at: int | None = None
    failure: str = "exception"

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        return SourceFiles()

    def load(self, context: BuildContext) -> ModelArtifact:
        """Write the options as the model's file, padded to its size."""
        main = context.folder / "model.json"
        text = json.dumps(self.model_dump())
        main.write_text(text.ljust(self.size_bytes))
        example = context.data("evaluation").inputs
        return ModelArtifact(
            folder=context.folder,
            format="fake",
            main=main.name,
            inputs=tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in example.items()),
            outputs=(TensorSpec("output", "float32", (None, self.classes)),),
            size_bytes=size_of([main]),
            sha256=digest_of([main]),
            steps=(AppliedStep("fake", self.model_dump_json()),),
        )


PLUGIN = FakeModel
