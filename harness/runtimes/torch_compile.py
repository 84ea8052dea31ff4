"""See TorchCompileRuntime."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.formats.torchao_tensors import quiet
from harness.runtimes import _inductor_cache
from harness.runtimes.torch import TorchSession, device_of, facts_of, load, placed

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.formats.aot_inductor import Package

Warm = Callable[[Mapping[str, "NDArray[np.generic]"]], "float | None"]


class CompiledSession(TorchSession):
    """A module that its first call compiles. It tells how long that took, what was compiled, and what was left to Python.

    ``warm``, where it is given, sees the first batch before it is prepared, outside what is timed, and tells the seconds of a cold compile.
    """

    def __init__(
        self, eager: torch.nn.Module, compiled: torch.nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool, told: str
    ) -> None:
        super().__init__(compiled, device, dtype, channels_last)
        self.eager = eager
        self.told = told
        self.warm: Warm | None = None
        self.cold_s: float | None = None
        self.first_s: float | None = None
        self.graphs = self.from_cache = 0

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        if self.warm is not None:
            warm, self.warm = self.warm, None
            self.cold_s = warm(batch)
        return super().prepare(batch)

    def run(self, prepared: object) -> object:
        try:
            return self._compile(prepared) if self.first_s is None else super().run(prepared)
        except _failures() as error:  # looked up only when something is raised: a query that is well pays nothing
            reason = next(line for line in (str(error.__cause__ or error).strip() or type(error).__name__).splitlines())
            raise CannotMeasure(f"torch.compile cannot compile this module: {reason}", hint=_hint_for(error)) from error

    def _compile(self, prepared: object) -> object:
        start = time.perf_counter()
        with quiet():
            given = super().run(prepared)
        self.first_s = time.perf_counter() - start
        self.graphs = _counted("stats", "unique_graphs")
        self.from_cache = _counted("inductor", "fxgraph_cache_hit")
        if self.graphs == 0:
            hint = "look for torch.compiler.disable in the model's code and for TORCH_COMPILE_DISABLE in the environment"
            raise CannotMeasure("torch.compile compiled nothing: the whole module would run eagerly", hint=hint)
        return given

    @property
    def facts(self) -> SessionFacts:
        from torch._dynamo.utils import counters

        plain = facts_of(self.eager, self.device)
        breaks = {str(reason).splitlines()[0]: count for reason, count in counters["graph_break"].items()}
        details = [self.told, f"{self.graphs} graphs, {sum(breaks.values())} graph breaks"]
        details += [f"graph break: {reason}" for reason in list(breaks)[:3]]
        if self.first_s is not None:
            details.append(
                f"the first call took {self.first_s:.1f} s, with {self.from_cache} of {self.graphs} graphs from Inductor's cache"
            )
        if self.cold_s is not None:
            details.append(f"compiled from nothing in {self.cold_s:.1f} s, once, in another process")
        if (again := _counted("stats", "unique_graphs") - self.graphs) > 0:
            details.append(f"{again} graphs were compiled again after the first call")
        if skipped := _counted("inductor", "cudagraph_skips"):
            details.append(f"CUDA graphs were left out {skipped} times")
        return SessionFacts(plain.device, plain.precision, plain.threads, (*plain.details, *details))


class PackageSession(TorchSession):
    """A package of AOTInductor: compiled when it was built."""

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(package, device, dtype, channels_last=False)  # called like a module
        self.package = package

    @property
    def facts(self) -> SessionFacts:
        import torch

        told = self.package.metadata
        precision = told.get("harness_precision", "unknown")
        if autocast := told.get("harness_autocast"):
            precision = f"autocast to {autocast}, weights in {precision}"
        details = ("compiled ahead of time by AOTInductor", f"for a CPU with {told.get('AOTI_CPU_ISA', 'no vector instructions')}")
        return SessionFacts(str(self.device), precision, torch.get_num_threads(), details)


class TorchCompileRuntime(Options):
    """PyTorch under torch.compile, or a package that the pass ``torch_compile`` has compiled ahead of time.

    ``backend``, ``mode``, ``dynamic`` and ``fullgraph`` are torch.compile's, ``freezing`` is Inductor's (weights become constants);
    ``dtype`` and ``channels_last`` are as for the runtime ``torch``. The first call compiles. With ``cache: warm`` another process has
    compiled the same call before, so every launch of every arm reads Inductor's cache: the first call is what a restart costs. With
    ``cache: cold`` every launch compiles from nothing. None of these options applies to a package. On CUDA it is unverified.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module", "exported_program", "aot_inductor")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    backend: str = "inductor"
    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    dynamic: bool | None = None
    fullgraph: bool = False
    freezing: bool = False
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    channels_last: bool = False
    cache: Literal["warm", "cold"] = "warm"

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        from harness.formats import torch_module

        installed = torch_module.installed_modules(artifact.folder) if artifact.format == "torch_module" else ()
        return ("torch", "torch._dynamo", "torch._inductor.compile_fx", *installed)

    def preload(self, artifact: ModelArtifact) -> None:
        """Import the framework, with its compiler where one will be at work, and the model's code."""
        from harness import plugins
        from harness.formats import aot_inductor, torch_module

        plugins.require("torch", plugin="torch_compile", extra="torch")
        aot_inductor.import_inductor()  # so that its memory and time are not the model's
        if artifact.format == "torch_module":
            torch_module.restore_code(artifact.folder)

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """The compiled module on its device. Raises CannotMeasure without a C++ compiler, or when a package does not fit this machine."""
        if artifact.format == "aot_inductor":
            yield self._package(artifact, device)
            return
        self._check()
        if self.cache == "cold" or self.backend != "inductor":
            with tempfile.TemporaryDirectory(prefix="harness-inductor-") as folder, self.session(artifact, device, Path(folder)) as session:
                yield session
            return
        folder_here = _inductor_cache.folder_of(self, artifact, device)
        with self.session(artifact, device, folder_here) as session:
            session.warm = lambda batch: _inductor_cache.compile_elsewhere(self, artifact, device, batch, folder_here)
            yield session

    @contextmanager
    def session(self, artifact: ModelArtifact, device: Device, folder: Path) -> Iterator[CompiledSession]:
        """A session whose compiled code is kept in ``folder``."""
        import torch
        import torch._dynamo
        import torch._inductor.config

        from harness.formats import aot_inductor

        target = device_of(device)
        if self.backend == "inductor":
            aot_inductor.require_compiler()
        with (
            aot_inductor.inductor_in(folder),
            torch._inductor.config.patch(freezing=self.freezing),
            # what could silently become eager is an error, which names its reason
            torch._dynamo.config.patch(suppress_errors=False, fail_on_recompile_limit_hit=True),
        ):
            eager, dtype = placed(load(artifact), target, self.dtype, self.channels_last)
            mode = self.mode if self.backend == "inductor" else None
            compiled = torch.compile(eager, backend=self.backend, mode=mode, dynamic=self.dynamic, fullgraph=self.fullgraph)
            yield CompiledSession(eager, compiled, target, dtype, self.channels_last, self._told(target))

    def _check(self) -> None:
        """Raise BadInput for a backend that this torch has not, or one that has not the options given."""
        import difflib

        import torch._dynamo

        known = sorted(torch._dynamo.list_backends(exclude_tags=None))
        if self.backend not in known:
            near = difflib.get_close_matches(self.backend, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
            raise BadInput(Problem(f"this torch has no torch.compile backend '{self.backend}'", hint=hint))
        if self.backend != "inductor" and (self.mode != "default" or self.freezing):
            raise BadInput(
                Problem(f"'mode' and 'freezing' are Inductor's: the backend '{self.backend}' has neither", hint="leave them out")
            )

    def _told(self, target: torch.device) -> str:
        text = (
            f"backend {self.backend}"
            + (f", mode {self.mode}" if self.backend == "inductor" else "")
            + (", frozen" if self.freezing else "")
        )
        graphs = self.mode in ("reduce-overhead", "max-autotune") and target.type == "cpu"
        return text + (" (on a CPU without CUDA graphs)" if graphs else "")

    def _package(self, artifact: ModelArtifact, device: Device) -> PackageSession:
        import torch

        from harness.formats import aot_inductor, precision

        given = self.model_dump(exclude_defaults=True)
        if given:
            named = ", ".join(f"'{name}'" for name in given)
            raise CannotMeasure(
                f"{named} cannot change a package that was compiled ahead of time", hint="give options to the pass torch_compile"
            )
        target = device_of(device)
        package = aot_inductor.Package(artifact.path)
        package.check_fits(device.name, precision.cpu_flags())
        return PackageSession(package, target, getattr(torch, package.metadata.get("harness_input", "float32")))


def _failures() -> tuple[type[Exception], ...]:
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit


def _counted(group: str, key: str) -> int:
    from torch._dynamo.utils import counters

    return int(counters[group][key])


def _hint_for(error: BaseException) -> str | None:
    """What else torch says where it stops."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines()]
    hints = [line for line in lines if line.startswith(("Hint:", "Explanation:"))]
    return hints[0] if hints else None


PLUGIN = TorchCompileRuntime
