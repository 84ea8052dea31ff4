"""The model process: opens the session as a worker does, and answers one batch after the other until the server hangs up.

Started as ``python -P -m harness.server.model FD FILE``. It ends with the server, however that ends.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.server import frames
from harness.server.frames import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.artifact import Dataset
    from harness.core.plugin import Session
    from harness.core.serving import Deployment
    from harness.kserve.settings import Settings

log = logging.getLogger("harness.server.model")
WARM_UP_CALLS = 3
"""Of each size: the first lays out memory, the second uses it, the third is what all others are like."""
WARM_UP_S = 10.0
"""Further sizes are left cold when those before have taken so long."""
COLLECT_EVERY = 1_000
"""Batches between two collections of what they left; what lived before them is frozen, so that one takes microseconds."""


class CannotServe(Exception):
    """This model cannot be served as asked; the text says why."""


@dataclass(slots=True)
class Model:
    """An opened session that answers batches.

    ``size`` is the only number of samples that it takes, None where it takes any: smaller batches are then filled up with their last
    sample, and the surplus of the answer is cut. ``most`` is the largest batch. ``splits`` says whether the outputs' first axis follows the
    batch, so that one batch can answer several requests.
    """

    session: Session
    names: tuple[str, ...]
    most: int
    size: int | None = None
    splits: bool = True
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    _layouts: dict[bytes, list[tuple[str, np.dtype[np.generic], tuple[int, ...], int]]] = field(default_factory=dict)
    _heads: dict[object, bytes] = field(default_factory=dict)

    def run(self, batch: dict[str, NDArray[np.generic]], samples: int) -> tuple[NDArray[np.generic], ...]:
        """Outputs for a batch of this many samples."""
        import numpy as np

        if self.size is not None and samples < self.size:
            batch = {name: np.concatenate([rows, np.repeat(rows[-1:], self.size - samples, axis=0)]) for name, rows in batch.items()}
        found = self.session.outputs(self.session.run(self.session.prepare(batch)))
        if self.size is None or samples == self.size:
            return found
        return tuple(rows[:samples] if rows.ndim and len(rows) == self.size else rows for rows in found)

    def answer(self, frame: frames.Frame, connection: socket.socket) -> None:
        """Run one batch and send what came of it. Samples with NaN or infinity are named in the head."""
        import numpy as np

        start = time.perf_counter_ns()
        outputs = self.run(self._batch(frame), frame.number)
        bad: list[int] = []
        pieces: list[memoryview] = []
        for output in outputs:
            if output.dtype.kind in "fc" and not np.isfinite(output).all():
                finite = np.isfinite(output).reshape(len(output), -1).all(axis=1) if output.ndim else np.zeros(frame.number, bool)
                bad.extend(np.flatnonzero(~finite).tolist())
            plain = np.ascontiguousarray(output)
            pieces.append(plain.reshape(-1).view(np.uint8).data)
        key = (*((output.dtype, output.shape) for output in outputs), *bad)
        head = self._heads.get(key)
        if head is None:
            shapes = [[output.dtype.name, list(output.shape)] for output in outputs]
            head = frames.head_of({"outputs": shapes, "bad": sorted(set(bad))})
            if len(self._heads) < 4096 and not bad:
                self._heads[key] = head
        frames.send(connection, Kind.DONE, time.perf_counter_ns() - start, head, pieces)

    def _batch(self, frame: frames.Frame) -> dict[str, NDArray[np.generic]]:
        """The tensors of a frame, where they lie."""
        import numpy as np

        layout = self._layouts.get(frame.head)
        if layout is None:
            told = json.loads(frame.head)
            layout = [(name, np.dtype(kind), tuple(row), np.dtype(kind).itemsize * _product(row)) for name, kind, row in told]
            if len(self._layouts) < 4096:
                self._layouts[frame.head] = layout
        batch, at = {}, 0
        for name, kind, row, row_bytes in layout:
            size = row_bytes * frame.number
            batch[name] = np.frombuffer(frame.body[at : at + size], kind).reshape(frame.number, *row)
            at += size + frames.padding(size)
        return batch

    def warm_up(self, data: Dataset, size: int, preferred: tuple[int, ...]) -> None:
        """Call with batches of the sizes that will come, the request's own first, and find out what the model takes.

        Raises CannotServe when it does not take that one.
        """
        import numpy as np

        first = self.run(data.batch(0, size), size)
        for output in first:
            if output.dtype.kind not in "biuf":
                raise CannotServe(f"an output is {output.dtype}: only numbers and truth values are served")
        names = self.names if len(self.names) == len(first) else tuple(f"output_{index}" for index in range(len(first)))
        self.splits = all(output.ndim and len(output) == size for output in first)
        self.outputs = tuple((name, output.dtype.name, output.shape[1:]) for name, output in zip(names, first, strict=True))
        begin = time.monotonic()
        sizes = dict.fromkeys((size, *(() if self.size else (1, 2, self.most, *preferred, *_powers(self.most)))))
        for samples in sizes if self.splits else (size,):
            if samples > 2 and samples not in (size, self.most) and time.monotonic() - begin > WARM_UP_S:
                continue
            try:
                found = first
                for _ in range(WARM_UP_CALLS):
                    found = self.run(data.batch(0, samples), samples)
                follows = all(np.ndim(output) and len(output) == samples for output in found)
            except Exception as error:
                if samples == size:
                    raise
                log.warning("a batch of %d fails (%s): only batches of %d are made", samples, _line(error), size)
                follows = False
            if not follows and samples != size:
                self.size, self.most = size, size
                break
        if not self.splits:
            log.warning("the outputs do not have a sample in each row: every request is a batch of its own")


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def _product(lengths: list[int]) -> int:
    product = 1
    for length in lengths:
        product *= length
    return product


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def opened(settings: Settings, resources: ExitStack) -> Model:
    """The deployment's session, warmed up. Raises CannotServe, or what the runtime raises."""
    from harness.core.plugin import Device, Runtime
    from harness.engine.datasets import read_dataset
    from harness.engine.plugin_options import plugin_of

    deployment = settings.deployment
    artifact = deployment.artifact
    runtime = cast("Runtime", plugin_of("runtimes", deployment.runtime, deployment.scenario_folder))
    runtime.preload(artifact)
    data = read_dataset(deployment.data)
    session = resources.enter_context(runtime.open(artifact, Device(deployment.device, deployment.threads)))
    fixed = {spec.shape[0] for spec in artifact.inputs if spec.shape} - {None}
    if len(fixed) > 1:
        raise CannotServe(f"its inputs have fixed batches of {' and '.join(map(str, sorted(fixed, key=str)))}")
    size = fixed.pop() if fixed else None
    model = Model(session, tuple(spec.name for spec in artifact.outputs), size or settings.max_batch_size, size)
    model.most = max(model.most, deployment.batch_size) if size is None else size
    model.warm_up(data, min(deployment.batch_size, model.most), tuple(n for n in settings.preferred_batch_sizes if n <= model.most))
    return model


def ready_head(model: Model, deployment: Deployment) -> bytes:
    """What the server is to know: the inputs as the artifact and as the data set name and type them, the outputs, what batches it takes."""
    from harness.engine.datasets import read_dataset

    data = read_dataset(deployment.data).inputs
    specs = deployment.artifact.inputs
    aliases = list(data) if len(data) == len(specs) == 1 else [spec.name for spec in specs]
    inputs = [
        {
            "name": spec.name,
            "alias": alias,
            "dtype": spec.dtype,
            "dtypes": sorted({spec.dtype, str(data[alias].dtype)} if alias in data else {spec.dtype}),
            "row": list(spec.shape[1:]),
        }
        for spec, alias in zip(specs, aliases, strict=True)
    ]
    outputs = []
    named = {spec.name: spec for spec in deployment.artifact.outputs}
    for name, kind, row in model.outputs:
        known = named.get(name)
        axes: list[int | None] = list(row)
        if known is not None and len(known.shape) == len(row) + 1:
            axes = [None if length is None else now for length, now in zip(known.shape[1:], row, strict=True)]
        outputs.append({"name": name, "dtype": kind, "row": axes})
    most = model.most if model.splits else deployment.batch_size
    return frames.head_of({"inputs": inputs, "outputs": outputs, "most": most, "splits": model.splits, "pid": os.getpid()})


def serve(connection: socket.socket, model: Model) -> None:
    """Answer until the server closes its end."""
    batches = 0
    while (frame := frames.receive(connection)) is not None:
        if frame.kind is Kind.FACTS:
            frames.send(connection, Kind.FACTS, 0, frames.head_of(asdict(model.session.facts)))
            continue
        try:
            model.answer(frame, connection)
        except Exception as error:  # noqa: BLE001 - the outermost frame: the request is answered with it and the model lives on
            traceback.print_exc()
            frames.send(connection, Kind.FAILED, 0, frames.head_of({"message": _line(error)}))
        batches += 1
        if batches % COLLECT_EVERY == 0:
            gc.collect()


def main() -> None:
    from pydantic import TypeAdapter

    from harness.core.errors import HarnessError
    from harness.engine.worker import end_with_parent
    from harness.kserve.settings import Settings

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends its model processes, when their last batch is answered
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    settings = TypeAdapter(Settings).validate_json(Path(sys.argv[2]).read_bytes())
    if settings.deployment.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings.deployment.cores)
    with socket.socket(fileno=int(sys.argv[1])) as connection, ExitStack() as resources:
        try:
            model = opened(settings, resources)
            head = ready_head(model, settings.deployment)
        except Exception as error:  # noqa: BLE001 - the outermost frame: the server is told why
            traceback.print_exc()
            message = str(error).replace("\n  ", "; ") if isinstance(error, HarnessError | CannotServe) else _line(error)
            frames.send(connection, Kind.FAILED, 0, frames.head_of({"message": message}))
            return
        gc.collect()
        gc.freeze()
        gc.disable()
        frames.send(connection, Kind.READY, 0, head)
        serve(connection, model)


if __name__ == "__main__":
    main()
