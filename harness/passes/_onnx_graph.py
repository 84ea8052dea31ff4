"""What the passes over ONNX graphs share: the library kept quiet, its optimizer's result, and two graphs compared on the same samples."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Level = Literal["none", "basic", "extended", "all"]


def require(plugin: str, *packages: str) -> None:
    """Raises MissingPackage, with the install line, when one of the packages is not there."""
    from harness import plugins

    for package in packages:
        plugins.require(package, plugin=plugin, extra="onnx")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library prints, warns, and logs through the root logger about advice that is already taken."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def options(level: Level = "all") -> onnxruntime.SessionOptions:
    """One thread, no talk: what is computed does not depend on how many threads compute it."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 3
    chosen.intra_op_num_threads = 1
    name = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}[level]
    chosen.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
    return chosen


def save_optimized(
    source: Path, into: Path, level: Level, *, providers: Sequence[str], disabled: Sequence[str] = (), large: bool = False
) -> onnx.ModelProto:
    """Let ONNX Runtime open a model and write down the graph that it would run; returned without external data.

    Raises CannotMeasure when it cannot open the model.
    """
    import onnx
    import onnxruntime

    chosen = options(level)
    chosen.optimized_model_filepath = str(into)
    if large:
        chosen.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{into.name}.data")
    try:
        onnxruntime.InferenceSession(str(source), chosen, providers=list(providers), disabled_optimizers=list(disabled) or None)
    except Exception as error:  # the library's errors share no base class below Exception
        raise CannotMeasure(f"onnxruntime cannot open this graph: {first_line(error)}") from error
    return onnx.load(into, load_external_data=False)


def largest_difference(before: Path, after: Path, data: Dataset) -> float:
    """The largest difference of any output on the first samples, alone and three together, as the CPU provider computes them.

    The graph before runs as it is written, node by node: what the library fuses is what is checked. Relative to the output's largest
    value where that is above 1. NaN where an output is; infinite where shapes differ. Raises CannotMeasure when ONNX Runtime cannot open
    or run one of the graphs.
    """
    import numpy as np
    import onnxruntime

    found = []
    for size in (1, 3):
        answers = []
        levels: dict[Path, Level] = {before: "none", after: "all"}
        for path, level in levels.items():
            try:
                session = onnxruntime.InferenceSession(str(path), options(level), providers=["CPUExecutionProvider"])
                answers.append(session.run(None, _feed(session, data, size)))
            except Exception as error:  # the library's errors share no base class below Exception
                which = "the graph that was given" if path == before else "the graph that came out"
                raise CannotMeasure(f"onnxruntime cannot run {which}: {first_line(error)}") from error
        for expected, got in zip(*answers, strict=True):
            wide, narrow = np.asarray(expected, np.float64), np.asarray(got, np.float64)
            if wide.shape != narrow.shape:
                return float("inf")
            if wide.size:
                found.append(np.abs(narrow - wide).max() / max(1.0, np.abs(wide).max()))
    return float(np.max(found))  # unlike the built-in, this one does not lose a NaN


def checked(before: ModelArtifact, after: Path, data: Dataset, plugin: str, tolerance: float) -> float:
    """The largest difference; raises CannotMeasure when it is beyond the tolerance, or no number."""
    worst = largest_difference(before.path, after, data)
    if not worst <= tolerance:
        hint = f"raise its 'tolerance' if that is fine for this model's outputs, or leave '{plugin}' out"
        raise CannotMeasure(f"after '{plugin}' the outputs differ by {worst:.3g}, more than {tolerance:g}", hint=hint)
    return worst


def _feed(session: onnxruntime.InferenceSession, data: Dataset, size: int) -> dict[str, object]:
    """A batch under the graph's names; half precision where the graph wants it."""
    import numpy as np

    inputs = session.get_inputs()
    batch = data.batch(0, size)
    if len(inputs) == 1 and len(batch) == 1:
        batch = {inputs[0].name: next(iter(batch.values()))}
    half = {value.name for value in inputs if value.type == "tensor(float16)"}
    return {name: values.astype(np.float16) if name in half else values for name, values in batch.items()}


def domain_counts(model: onnx.ModelProto) -> Counter[tuple[str, str]]:
    """How many nodes of each (domain, type)."""
    from harness.formats import onnx_model

    return Counter((node.domain, node.op_type) for node in onnx_model.nodes(model))


def told(counts: Counter[str], most: int = 8) -> str:
    """ "4 SkipLayerNormalization, 2 BiasGelu"."""
    listed = [f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(listed[:most]) + (" ..." if len(listed) > most else "")


def check_known(plugin: str, what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadInput for names that the graph does not have, with the nearest right one: the library itself ignores them."""
    there = list(dict.fromkeys(known))
    problems = []
    for unknown in (name for name in names if name not in there):
        near = difflib.get_close_matches(unknown, there, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its {what}s are {', '.join(there[:10])}{' ...' if len(there) > 10 else ''}"
        problems.append(Problem(f"'{plugin}' excludes the {what} '{unknown}', which is not in this graph", hint=hint))
    if problems:
        raise BadInput(*problems)
