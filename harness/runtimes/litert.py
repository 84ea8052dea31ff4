"""See Litert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from numpy.typing import NDArray

    from harness.formats.tflite import Operator


@dataclass(frozen=True, slots=True)
class Fed:
    """A batch as the interpreter takes it: by place, in the tensors' own types."""

    tensors: tuple[tuple[int, NDArray[np.generic]], ...]
    shapes: tuple[tuple[int, ...], ...]


class LitertSession:
    """One interpreter: ``run`` copies the inputs in, computes, and copies the outputs out.

    Its tensors are laid out for one batch size: a batch of another lays them out anew.
    """

    def __init__(self, artifact: ModelArtifact, device: Device, delegate: str) -> None:
        from harness.formats import tflite

        self.interpreter: Interpreter = tflite.opened(artifact.path, threads=device.threads, delegates=delegate != "none")
        self._device = device
        self._delegate = delegate
        self._inputs, outputs = tflite.tensors(self.interpreter)
        order = {spec.name: index for index, spec in enumerate(artifact.outputs)}
        self._outputs = [outputs[name] for name in sorted(outputs, key=lambda name: order.get(name, len(order)))]
        self._scales = {index: tflite.scale_of(self.interpreter, index) for index in (*self._inputs.values(), *self._outputs)}
        self._specs = {spec.name: spec for spec in artifact.inputs}
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._operators = tflite.operators(self.interpreter)

    @property
    def facts(self) -> SessionFacts:
        """What the operators of the file compute in, and which of them a delegate runs."""
        from harness.formats import tflite

        compute = Counter((operator.kind, operator.precision) for operator in self._operators if operator.kind in tflite.COMPUTE)
        details = [f"{count} {kind} in {name}" for (kind, name), count in sorted(compute.items())]
        converts = Counter(operator.kind for operator in self._operators if operator.kind in ("QUANTIZE", "DEQUANTIZE", "DENSIFY"))
        details += [f"{count} {kind}" for kind, count in sorted(converts.items())]
        details.append(self._delegated())
        integers = [
            what
            for what, places in (("inputs quantized before", self._inputs.values()), ("outputs dequantized after", self._outputs))
            if any(self._scales[index].scale for index in places)
        ]
        if integers:
            details.append(f"{' and '.join(integers)} the query, not in it")
        return SessionFacts(self._device.name, _precision(compute), self._device.threads, tuple(details))

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """Arrays in the tensors' own types, and tensors laid out for them. Raises BadInput where names, dtypes or shapes do not match.

        A single input is matched by position. Where the model takes integers and the data are float, they are quantized here.
        """
        import numpy as np

        from harness.formats import tflite

        names = list(self._inputs)
        if len(batch) == 1 and len(names) == 1:
            batch = {names[0]: next(iter(batch.values()))}
        if set(batch) != set(names):
            raise BadInput(Problem(f"the model's inputs are {', '.join(names)}; the data gives {', '.join(batch)}"))
        tensors = []
        for name, values in batch.items():
            scale, spec = self._scales[self._inputs[name]], self._specs[name]
            held = np.ascontiguousarray(tflite.quantized(values, scale))
            if held.dtype != scale.dtype:
                raise BadInput(Problem(f"input '{name}' of the model is {spec.dtype}, the data gives {values.dtype}"))
            if len(spec.shape) != values.ndim or any(
                length not in (None, given) for length, given in zip(spec.shape, values.shape, strict=True)
            ):
                told = ", ".join("any" if length is None else str(length) for length in spec.shape)
                hint = "convert_tflite's 'batch_size' fixes the batch axis: measure that batch size alone, or leave the option out"
                raise BadInput(
                    Problem(f"input '{name}' of the model has the shape [{told}], the data gives {list(values.shape)}", hint=hint)
                )
            tensors.append((self._inputs[name], held))
        fed = Fed(tuple(tensors), tuple(values.shape for _, values in tensors))
        self._lay_out(fed)
        return fed

    def run(self, prepared: object) -> object:
        assert isinstance(prepared, Fed)
        if prepared.shapes != self._shapes:
            self._lay_out(prepared)
        for index, values in prepared.tensors:
            self.interpreter.set_tensor(index, values)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self._outputs]

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        from harness.formats import tflite

        assert isinstance(raw, list)
        return tuple(tflite.dequantized(values, self._scales[index]) for index, values in zip(self._outputs, raw, strict=True))

    def lay_out_as_saved(self) -> None:
        """Lay the tensors out as the file has them, so that what a delegate compiles is a part of opening. Raises CannotMeasure."""
        self._allocate()
        if self._delegate == "xnnpack" and not self._taken():
            raise CannotMeasure("XNNPACK was asked for and takes no operator of this model")

    def _lay_out(self, fed: Fed) -> None:
        if fed.shapes == self._shapes:
            return
        for index, values in fed.tensors:
            if tuple(self.interpreter._get_tensor_details(index, 0)["shape"]) != values.shape:
                self.interpreter.resize_tensor_input(index, values.shape, strict=True)
        self._allocate()
        self._shapes = fed.shapes

    def _allocate(self) -> None:
        try:
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            said = (str(error).strip() or "no message").splitlines()[0]
            hint = None if self._delegate == "none" else "'litert: {delegate: none}' runs LiteRT's own kernels in XNNPACK's place"
            raise CannotMeasure(f"LiteRT cannot lay out the tensors of this model: {said}", hint=hint) from error

    def _taken(self) -> tuple[Operator, ...]:
        from harness.formats import tflite

        return tflite.delegated(self.interpreter, self._operators)

    def _delegated(self) -> str:
        taken = self._taken()
        if not taken:
            return "no delegate: LiteRT's own kernels"
        told = f"{len(taken)} of {len(self._operators)} operators run by XNNPACK"
        if left := [operator.kind for operator in self._operators if operator not in taken]:
            told += f"; by LiteRT's own kernels: {', '.join(sorted(set(left))[:5])}"
        return told


class Litert(Options):
    """LiteRT (TensorFlow Lite) on a CPU. Options: ``delegate``.

    ``delegate: default`` lets the library choose, which is XNNPACK where it has a kernel and LiteRT's own kernels elsewhere; ``xnnpack``
    asks for it, and a model of which it takes nothing is an error; ``none`` runs LiteRT's own kernels alone. The facts tell what each
    operator computes in and which run where. Tensors are laid out for the trial's batch size before anything is timed. A model with
    integer inputs or outputs is given and gives integers in a query: float data are quantized before it, and its answers turned back after.
    """

    extra: ClassVar[str | None] = "litert"
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    accepts: ClassVar[tuple[str, ...]] = ("tflite",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    delegate: Literal["default", "xnnpack", "none"] = "default"

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        return ("ai_edge_litert.interpreter",)

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins

        plugins.require("ai_edge_litert", plugin="litert", extra="litert")
        import ai_edge_litert.interpreter  # noqa: F401 - imported so that its memory and time are not the model's

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """Read the file and lay out its tensors. Raises BadInput when it is no model, CannotMeasure when the delegate takes nothing."""
        session = LitertSession(artifact, device, self.delegate)
        session.lay_out_as_saved()
        yield session


def _precision(compute: Counter[tuple[str, str]]) -> str:
    """What most is done in, int8 first, as the other runtimes tell it."""
    counts: Counter[str] = Counter()
    for (_, name), count in compute.items():
        counts[name] += count
    if not counts:
        return "no operators with weights"
    (first, most), *others = sorted(counts.items(), key=lambda item: ("int8" not in item[0], -item[1]))
    if not others:
        return first
    return f"{first} ({most} of {counts.total()} compute operators; {', '.join(f'{count} in {name}' for name, count in others)})"


PLUGIN = Litert
