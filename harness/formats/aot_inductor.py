"""The format ``aot_inductor``: a ``.pt2`` package, machine code with the weights beside it; and what Inductor needs to make one."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact, TensorSpec
from harness.core.errors import CannotMeasure
from harness.formats.files import digest_of, size_of

if TYPE_CHECKING:
    import torch

MAIN = "model.pt2"
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
FLAGS = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16", "AMX_TILE": "amx_tile"}
"""What a package says of the instructions that it holds, and what /proc/cpuinfo calls them."""


def describe(
    folder: Path, *, example: Dataset, outputs: Mapping[str, torch.Tensor], batch_size: int | None, steps: tuple[AppliedStep, ...]
) -> ModelArtifact:
    """The artifact of a package; one for a single batch size has that as its first axis."""
    main = folder / MAIN
    return ModelArtifact(
        folder=folder,
        format="aot_inductor",
        main=MAIN,
        inputs=tuple(TensorSpec(name, str(values.dtype), (batch_size, *values.shape[1:])) for name, values in example.inputs.items()),
        outputs=tuple(
            TensorSpec(name, str(value.dtype).removeprefix("torch."), (batch_size, *value.shape[1:])) for name, value in outputs.items()
        ),
        size_bytes=size_of([main]),
        sha256=digest_of([main]),
        steps=steps,
    )


class Package:
    """An opened package, called as its module was."""

    def __init__(self, path: Path) -> None:
        """Raises CannotMeasure for a package that this machine or this torch cannot run."""
        import torch._inductor

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own use of its tree library
            try:
                self.compiled = torch._inductor.aoti_load_package(str(path))
            except RuntimeError as error:
                reason = (str(error).strip() or "no message").splitlines()[0]
                raise CannotMeasure(f"torch {torch.__version__} cannot open this package: {reason}") from error
        self.metadata: dict[str, str] = self.compiled.get_metadata()

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.compiled(*args, **kwargs)

    def check_fits(self, device: str, flags: frozenset[str] | None) -> None:
        """Raise CannotMeasure where the package was compiled for another device or for instructions that this CPU has not."""
        made_for = self.metadata.get("AOTI_DEVICE_KEY", "cpu")
        if made_for != device.partition(":")[0]:
            raise CannotMeasure(
                f"this package was compiled for '{made_for}' and '{device}' was asked for", hint="compile it for that device"
            )
        wanted = {FLAGS[name] for name in self.metadata.get("AOTI_CPU_ISA", "").split() if name in FLAGS}
        if flags is not None and (missing := sorted(wanted - flags)):
            raise CannotMeasure(f"this package was compiled for a CPU with {', '.join(missing)}, which this one has not")


def import_inductor() -> None:
    """Import Inductor and Dynamo, without their remarks on torch's own deprecated parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._inductor.compile_fx  # noqa: F401


def require_compiler() -> str:
    """The C++ compiler that Inductor will use. Raises CannotMeasure with the next step where there is none."""
    import_inductor()
    from torch._inductor import cpp_builder, exc

    try:
        return str(cpp_builder.get_cpp_compiler())
    except (exc.InvalidCxxCompiler, OSError) as error:
        hint = "install g++ (on Debian and Ubuntu: apt-get install g++), or name a compiler in the variable CXX"
        raise CannotMeasure("Inductor compiles C++ and finds no compiler on this machine", hint=hint) from error


@contextmanager
def inductor_in(folder: Path) -> Iterator[None]:
    """Let Inductor keep what it compiles in ``folder``, and begin as in a new process: without what this one has compiled before."""
    import_inductor()
    import torch._dynamo
    import torch._inductor.config

    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    _forget()
    try:
        # A pool of compiling processes would be left beside the measurement, and a profile of shapes seen would choose later kernels.
        with torch._inductor.config.patch(compile_threads=1), torch._dynamo.config.patch(automatic_dynamic_local_pgo=False):
            yield
    finally:
        _forget()
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before


def _forget() -> None:
    import torch._dynamo
    import torch._inductor.codecache
    import torch._inductor.utils

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch._inductor.utils.clear_caches()
    with contextlib.suppress(AttributeError):  # private: the compiled header lies in the folder of the time before
        torch._inductor.codecache._precompile_header.cache_clear()
