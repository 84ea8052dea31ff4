"""A session of ONNX Runtime whose inputs and outputs have places of their own on the device (I/O binding)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, CannotMeasure, Problem

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

ELEMENTS = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """One batch with its places: ``values`` on the device, and ``arrays`` on the host where a query copies them there."""

    binding: onnxruntime.IOBinding
    values: Mapping[str, onnxruntime.OrtValue]
    arrays: Mapping[str, NDArray[np.generic]]


class Binder:
    """Gives batches their places.

    ``copied``: a query copies its inputs to the device and its outputs back; else inputs are there before, outputs stay, and neither
    copy is counted. ``pinned``: the host's side is page-locked. ``fixed``: all batches share one set of buffers, which a captured CUDA
    graph goes on reading and writing. Unverified on a GPU.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, copied: bool, pinned: bool, fixed: bool) -> None:
        self._session = session
        kind, _, index = device.partition(":")
        self._place = (kind, int(index or 0))
        self._copied = copied
        self._pinned = pinned
        self._fixed = fixed
        self._shared: Bound | None = None

    def bind(self, batch: Mapping[str, NDArray[np.generic]]) -> Bound:
        """Raises BadInput for a batch of another shape where buffers are fixed."""
        import numpy as np
        import onnxruntime

        arrays = {name: np.ascontiguousarray(values) for name, values in batch.items()}
        if self._pinned:
            arrays = {name: _page_locked(values) for name, values in arrays.items()}
        if self._shared is not None:
            for name, value in self._shared.values.items():
                if tuple(value.shape()) != arrays[name].shape:
                    raise BadInput(Problem(f"a CUDA graph is of one shape: '{name}' has {arrays[name].shape}, it was {value.shape()}"))
            return Bound(self._shared.binding, self._shared.values, arrays)
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, *self._place)
            for name, array in arrays.items()
        }
        binding = self._session.io_binding()
        for name, value in values.items():
            value.update_inplace(arrays[name])
            binding.bind_ortvalue_input(name, value)
        for output in self._session.get_outputs():
            if self._fixed:
                binding.bind_ortvalue_output(output.name, self._room_for(output, arrays))
            else:
                binding.bind_output(output.name, *self._place)
        bound = Bound(binding, values, arrays)
        if self._fixed:
            self._shared = bound
        return bound

    def run(self, bound: Bound) -> object:
        """One query; it returns when the device has finished."""
        if self._copied:
            for name, value in bound.values.items():
                value.update_inplace(bound.arrays[name])
        self._session.run_with_iobinding(bound.binding)
        if self._copied:
            return bound.binding.copy_outputs_to_cpu()
        bound.binding.synchronize_outputs()
        return bound

    def outputs(self, raw: object) -> list[NDArray[np.generic]]:
        """Arrays on the host, of what ``run`` gave last."""
        found: list[NDArray[np.generic]] = raw.binding.copy_outputs_to_cpu() if isinstance(raw, Bound) else list(raw)  # type: ignore[call-overload]  # copied already
        return found

    def _room_for(self, output: onnxruntime.NodeArg, arrays: Mapping[str, NDArray[np.generic]]) -> onnxruntime.OrtValue:
        """A buffer for an output whose only open axis is the batch's."""
        import numpy as np
        import onnxruntime

        size = len(next(iter(arrays.values())))
        shape = [size if index == 0 and not isinstance(axis, int) else axis for index, axis in enumerate(output.shape)]
        if not all(isinstance(axis, int) for axis in shape) or output.type not in ELEMENTS:
            raise CannotMeasure(f"cuda_graph needs outputs of a known shape; '{output.name}' is {output.type} {output.shape}")
        kind = np.dtype(ELEMENTS[output.type]).type
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, *self._place)


def _page_locked(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values in page-locked memory, which torch gives: onnxruntime's Python interface does not."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise CannotMeasure("pinned memory is allocated by torch, which is not installed", hint="install torch, or leave 'pinned' out")
    import torch

    if not torch.cuda.is_available():
        raise CannotMeasure(f"this torch ({torch.__version__}) sees no CUDA device to pin memory for", hint="leave 'pinned' out")
    locked: NDArray[np.generic] = torch.from_numpy(values).pin_memory().numpy()  # the array keeps the tensor's memory alive
    return locked
