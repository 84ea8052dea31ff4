"""The format ``torchscript``: one file of ``torch.jit.save``, without the notes on where its code came from."""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact, TensorSpec
from harness.formats.files import digest_of, size_of

if TYPE_CHECKING:
    import torch

MAIN = "model.pt"
DEBUG = ".debug_pkl"


def save(
    scripted: torch.jit.ScriptModule, folder: Path, *, example: Dataset, outputs: Mapping[str, torch.Tensor], steps: tuple[AppliedStep, ...]
) -> ModelArtifact:
    """Write a scripted module and describe it. Raises what torch.jit.save raises for a module that it cannot write."""
    import torch

    scratch = folder / "whole.pt"
    try:
        with quietly():
            torch.jit.save(scripted, str(scratch))
        _leave_out_places(scratch, folder / MAIN)
    finally:
        scratch.unlink(missing_ok=True)
    main = folder / MAIN
    return ModelArtifact(
        folder=folder,
        format="torchscript",
        main=MAIN,
        inputs=tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in example.inputs.items()),
        outputs=tuple(
            TensorSpec(name, str(value.dtype).removeprefix("torch."), (None, *value.shape[1:])) for name, value in outputs.items()
        ),
        size_bytes=size_of([main]),
        sha256=digest_of([main]),
        steps=steps,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """TorchScript is deprecated upstream, which every one of its functions says: documented, and of no use in a build's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def load(path: Path) -> torch.jit.ScriptModule:
    """Open a file on the CPU, in eval mode."""
    import torch

    with quietly():
        return torch.jit.load(str(path), map_location="cpu").eval()


def operators(counts: Mapping[str, int]) -> int:
    """How many nodes do work: not those that hold or pack values."""
    return sum(count for kind, count in counts.items() if not kind.startswith("prim::") or "mkldnn" in kind.lower())


def nodes(graph: torch.Graph) -> Counter[str]:
    """How many nodes of each kind a graph has, those of its blocks and fused groups included."""
    counts: Counter[str] = Counter()
    for node in _walk(graph):
        counts[node.kind()] += 1
    return counts


def constants(graph: torch.Graph) -> Counter[str]:
    """How many values the tensors that freezing has put into a graph hold, by dtype."""
    sizes: Counter[str] = Counter()
    for node in _walk(graph):
        if node.kind() == "prim::Constant" and "value" in node.attributeNames() and node.kindOf("value") == "t":
            tensor = node.t("value")
            sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return sizes


def _walk(graph: torch.Graph | torch.Block) -> Iterator[torch.Node]:
    for node in graph.nodes():
        yield node
        for block in node.blocks():
            yield from _walk(block)
        if node.hasAttribute("Subgraph"):
            yield from _walk(node.g("Subgraph"))


def _leave_out_places(whole: Path, into: Path) -> None:
    """Copy the archive without the files and lines that the code came from: with them, equal models differ in size from place to place."""
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(DEBUG):
                target.writestr(zipfile.ZipInfo("model/" + entry.filename.partition("/")[2]), source.read(entry))
