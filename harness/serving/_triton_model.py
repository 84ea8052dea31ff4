"""The model of Triton's Python backend: opens an ONNX file in onnxruntime and answers a batch of requests by one call.

Copied into the model repository and run there by the backend's own process, in the interpreter that ``job.json`` names the packages of:
nothing of this package is imported.
"""

from __future__ import annotations

import json
import site
import sys
from pathlib import Path
from typing import Any

JOB = json.loads(Path(__file__).with_name("job.json").read_text())
for folder in JOB["packages"]:  # the backend's interpreter ignores PYTHONPATH, and imports numpy itself right after this file
    site.addsitedir(folder)
sys.path[:0] = JOB["packages"]


class TritonPythonModel:
    """What the backend looks for by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        import numpy as np
        import onnxruntime

        if np.__version__ != JOB["numpy"]:
            raise RuntimeError(f"numpy {np.__version__} was imported from {np.__file__}, {JOB['numpy']} is what this backend can read")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = JOB["threads"]
        options.log_severity_level = 3
        wanted = "CPUExecutionProvider" if JOB["gpu"] is None else "CUDAExecutionProvider"
        given = {} if JOB["gpu"] is None else {"device_id": JOB["gpu"]}
        self.session = onnxruntime.InferenceSession(JOB["model"], options, providers=[(wanted, given)])
        if self.session.get_providers()[0] != wanted:
            raise RuntimeError(f"onnxruntime runs on {self.session.get_providers()[0]}, {wanted} was asked for")
        self.inputs: list[str] = JOB["inputs"]
        self.outputs: list[str] = JOB["outputs"]
        self.batched: bool = JOB["batched"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One call for all requests where the model can be batched; the outputs are cut where the inputs were joined."""
        return self._joined(requests) if self.batched and len(requests) > 1 else [self._alone(request) for request in requests]

    def _alone(self, request: Any) -> Any:
        return _answer(self.outputs, self.session.run(self.outputs, {name: _array(request, name) for name in self.inputs}))

    def _joined(self, requests: list[Any]) -> list[Any]:
        import numpy as np

        arrays = {name: [_array(request, name) for request in requests] for name in self.inputs}
        whole = self.session.run(self.outputs, {name: np.concatenate(parts) for name, parts in arrays.items()})
        ends = np.cumsum([len(part) for part in arrays[self.inputs[0]]])
        starts = [0, *ends[:-1]]
        return [_answer(self.outputs, [values[start:end] for values in whole]) for start, end in zip(starts, ends, strict=True)]


def _array(request: Any, name: str) -> Any:
    import triton_python_backend_utils as backend  # type: ignore[import-not-found,unused-ignore]

    return backend.get_input_tensor_by_name(request, name).as_numpy()


def _answer(names: list[str], values: list[Any]) -> Any:
    import numpy as np
    import triton_python_backend_utils as backend

    return backend.InferenceResponse([backend.Tensor(name, np.ascontiguousarray(value)) for name, value in zip(names, values, strict=True)])
