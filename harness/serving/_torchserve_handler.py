"""The handler in TorchServe's archive: reads requests of the Open Inference Protocol, runs them as one batch, and answers each.

Runs in TorchServe's worker, in its own environment: of this package it has the codec alone, as a file beside it. TorchServe passes the body
and the headers of ``/v2/models/NAME/infer`` on as they are.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COUNTERS = struct.Struct("<5q")
"""Requests answered and failed, batches, samples, ns in the model; one file for each worker, which the harness reads."""


class Handler:
    """What TorchServe looks for: a class with ``initialize`` and ``handle``."""

    def initialize(self, context: Any) -> None:
        folder = Path(context.system_properties["model_dir"])
        self.job = json.loads((folder / "job.json").read_text())
        self.run = _opened(folder / self.job["model"], self.job)
        self.counts = [0] * 5
        with (Path(self.job["counters"]) / str(os.getpid())).open("w+b") as file:
            file.truncate(COUNTERS.size)
            self.shared = mmap.mmap(file.fileno(), COUNTERS.size)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One answer for each request; a request that cannot be read gets the protocol's error and does not touch the others."""
        import kserve_codec as codec  # type: ignore[import-not-found,unused-ignore]
        import numpy as np

        read: dict[int, Any] = {}
        answers = [b""] * len(data)
        for index, row in enumerate(data):
            body, length = row.get("body", row.get("data", b"")), context.get_request_header(index, codec.HEADER_LENGTH)
            try:
                whole = bytes(body) if isinstance(body, bytes | bytearray) else json.dumps(body).encode()
                inputs = codec.decode_request(whole, None if length is None else int(length)).inputs
                read[index] = [_checked(inputs, name, shape, codec) for name, shape in self.job["inputs"]]
            except codec.BadMessage as error:
                context.set_response_status(400, str(error), index)
                answers[index] = json.dumps({"error": str(error)}).encode()
                self.counts[1] += 1
        if read:
            start = time.perf_counter_ns()
            outputs = self.run([np.concatenate(arrays) for arrays in zip(*read.values(), strict=True)])
            self._count(len(read), sum(len(arrays[0]) for arrays in read.values()), time.perf_counter_ns() - start)
        at = 0
        for index, arrays in read.items():
            end = at + len(arrays[0])
            named = {name: output[at:end] for name, output in zip(self.job["outputs"], outputs, strict=True)}
            message = codec.encode_response(self.job["name"], named, dict.fromkeys(named, True))
            for name, value in message.headers.items():
                context.set_response_header(index, name, value)
            answers[index], at = message.body, end
        self.shared[:] = COUNTERS.pack(*self.counts)
        return answers

    def _count(self, requests: int, samples: int, took_ns: int) -> None:
        self.counts = [now + more for now, more in zip(self.counts, (requests, 0, 1, samples, took_ns), strict=True)]


def _checked(inputs: Any, name: str, shape: list[int | None], codec: Any) -> Any:
    array = inputs.get(name)
    if array is None or array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        given = "it is missing" if array is None else f"the request's is {list(array.shape)}"
        raise codec.BadMessage(f"'{name}' is of shape {[-1 if length is None else length for length in shape]}; {given}")
    return array


def _opened(path: Path, job: dict[str, Any]) -> Callable[[list[Any]], list[Any]]:
    """A function of arrays to arrays."""
    if job["format"] == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return lambda arrays: list(session.run(job["outputs"], dict(zip(names, arrays, strict=True))))
    import torch

    torch.set_num_threads(job["threads"])
    module = torch.jit.load(str(path), map_location="cpu")

    def run(arrays: list[Any]) -> list[Any]:
        with torch.inference_mode():
            given = module(*(torch.from_numpy(array) for array in arrays))
        values = given if isinstance(given, tuple | list) else list(given.values()) if isinstance(given, dict) else [given]
        return [value.numpy() for value in values]

    return run
