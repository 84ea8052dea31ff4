"""The machine's fingerprint, taken once a run. What cannot be read is None or empty, never guessed."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness.core.environment import Environment, Gpu

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ORT_DISABLE_ALL", "LD_PRELOAD")
"""Environment variables that change how fast or with what a model runs."""
NOT_SOURCE = ("baselines", "reports")
"""Folders that this program writes: a change in them does not make the source dirty."""
OF_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
"""What git tells its hooks: followed here, it would lead to the repository or the index that is being worked on there."""


def read_environment(root: Path, packages: Mapping[str, str] | None = None) -> Environment:
    """Read this machine, and the commit of the project at ``root``. ``packages`` are the versions worth recording."""
    import psutil

    cpu = _cpu_info()
    commit, dirty = read_commit(root)
    return Environment(
        cpu_model=cpu.get("model name") or cpu.get("Hardware") or platform.processor() or platform.machine(),
        cpu_count=os.cpu_count() or 1,
        cpu_flags=tuple(sorted(flag for flag in (cpu.get("flags") or cpu.get("Features") or "").split() if _matters(flag))),
        memory_bytes=psutil.virtual_memory().total,
        gpus=_gpus(),
        os=_os_name(),
        kernel=platform.release(),
        python=platform.python_version(),
        governor=_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        virtual_machine="hypervisor" in (cpu.get("flags") or "").split() if cpu.get("flags") else None,
        packages=dict(packages or {}),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        commit=commit,
        dirty=dirty,
    )


def read_commit(root: Path) -> tuple[str | None, bool | None]:
    """(commit, whether the source differs from it) of the work tree at ``root``; (None, None) outside version control."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    status = git(root, "status", "--porcelain", "--", ".", *(f":(exclude,top){name}" for name in NOT_SOURCE))
    return commit, None if status is None else bool(status)


def git(root: Path, *arguments: str) -> str | None:
    """What git answers of the project at ``root``, stripped; None where it fails or is not installed."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER_REPOSITORY}
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_info() -> dict[str, str]:
    text = _text(Path("/proc/cpuinfo")) or ""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _matters(flag: str) -> bool:
    """Instruction sets that kernels are chosen by."""
    return flag.startswith(("avx", "amx", "sse4", "fma", "f16c", "asimd", "sve", "bf16", "i8mm", "dotprod"))


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _gpus() -> tuple[Gpu, ...]:
    """As NVML reports them; none where its Python binding or the driver is missing."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total), str(driver)) for handle in handles
        )
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
