"""How much CPU time the control group of this process may have, in both versions of the kernel's interface."""

from __future__ import annotations

import math
from pathlib import Path


def cpu_quota(root: Path) -> float | None:
    """The quota in cores: the least of this group's and of those above it; inf where none sets one, None where none can be read."""
    quotas = [quota for folder in _folders(root) if (quota := _quota_in(folder)) is not None]
    return min(quotas, default=None)


def cgroup_folder(root: Path) -> Path | None:
    """Where the counters of this process's group are; None where there is no such folder."""
    return next((folder for folder in _folders(root) if (folder / "cpu.stat").is_file()), None)


def count_in(text: str | None, name: str) -> int | None:
    """The number after a name in a file of "name number" lines."""
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None


def _folders(root: Path) -> list[Path]:
    """This process's group and those above it, version 2 first: a container sees its own group as the topmost."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ["cpu,cpuacct", "cpu"] if controllers else ["", "unified"]
        for mount in (root / "sys/fs/cgroup" / name for name in mounts):
            group = mount / path.strip("/")
            found += [folder for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    return found


def _quota_in(folder: Path) -> float | None:
    """``cpu.max`` holds "quota period" or "max period"; version 1 has a file for each, and -1 for no quota."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
