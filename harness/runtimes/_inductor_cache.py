"""Where compiled code is kept between launches, and how a launch finds it: always warm, or always cold.

The first of many launches would compile for many seconds and the others read what it left; whichever arm came first would pay. So a launch
that finds nothing lets another process compile the same call first, and then compiles from the same warm cache as every launch after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.artifact import ModelArtifact
from harness.core.plugin import Device
from harness.formats.aot_inductor import CACHE_VARIABLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.runtimes.torch_compile import TorchCompileRuntime

log = logging.getLogger(__name__)
UNUSED_S = 14 * 24 * 3600
_ARTIFACT: TypeAdapter[ModelArtifact] = TypeAdapter(ModelArtifact)


def cache_root() -> Path:
    """``harness`` under ``$TORCHINDUCTOR_CACHE_DIR``, else a folder of its own under the user's cache folder."""
    import platformdirs

    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) / "harness" if named else platformdirs.user_cache_path("harness-torch-compile")


def folder_of(runtime: TorchCompileRuntime, artifact: ModelArtifact, device: Device) -> Path:
    """One folder for each artifact, set of options and number of threads, under this torch."""
    import torch

    facts = [str(artifact.folder), artifact.sha256, runtime.model_dump_json(), device.name, device.threads, torch.__version__]
    return cache_root() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def compile_elsewhere(
    runtime: TorchCompileRuntime, artifact: ModelArtifact, device: Device, batch: Mapping[str, NDArray[np.generic]], folder: Path
) -> float | None:
    """Fill ``folder`` by a call in another process, unless one with this batch's shape has; the seconds that it took, whenever it was.

    None where that process failed: the call here will then say why.
    """
    import numpy as np
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    with FileLock(f"{folder}.lock"):
        done = folder / f"{_shape_of(batch)}.json"
        if not done.is_file():
            _forget_unused(folder.parent)
            np.savez(folder / "batch.npz", allow_pickle=False, **batch)
            portable = _ARTIFACT.dump_python(artifact, mode="json")
            order = {"artifact": portable, "options": runtime.model_dump(mode="json"), "device": [device.name, device.threads]}
            (folder / "order.json").write_text(json.dumps(order))
            code = "import sys; from harness.runtimes._inductor_cache import compile_here; compile_here(sys.argv[1])"
            command = [sys.executable, "-P", "-W", "ignore", "-c", code, str(folder)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if ended.returncode != 0:
                log.warning("compiling ahead of the first call failed:\n%s", ended.stderr)
                return None
        return float(json.loads(done.read_text())["seconds"])


def compile_here(folder: str) -> None:
    """What the other process does: open the artifact and call it once, with nothing in the cache."""
    import numpy as np

    from harness.runtimes.torch_compile import TorchCompileRuntime

    place = Path(folder)
    order = json.loads((place / "order.json").read_text())
    artifact = _ARTIFACT.validate_python(order["artifact"])
    runtime = TorchCompileRuntime.model_validate(order["options"])
    runtime.preload(artifact)
    with np.load(place / "batch.npz") as saved:
        batch = {name: saved[name] for name in saved.files}
    with runtime.session(artifact, Device(*order["device"]), place) as session:
        prepared = session.prepare(batch)
        start = time.perf_counter()
        session.run(prepared)
        seconds = time.perf_counter() - start
    (place / f"{_shape_of(batch)}.json").write_text(json.dumps({"seconds": seconds}))


def _shape_of(batch: Mapping[str, NDArray[np.generic]]) -> str:
    shapes = {name: [str(values.dtype), values.shape] for name, values in batch.items()}
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:12]


def _forget_unused(root: Path) -> None:
    """Leave out what no launch has used for two weeks."""
    for folder in root.iterdir():
        with contextlib.suppress(OSError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > UNUSED_S:
                shutil.rmtree(folder)
                Path(f"{folder}.lock").unlink(missing_ok=True)
