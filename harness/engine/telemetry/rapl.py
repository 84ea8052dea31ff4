"""CPU energy from the kernel's powercap counters (RAPL): packages, and the memory beside them where it has a counter of its own.

The parts of a package (core, uncore) are in its counter already and are left out, and so is psys, the whole board. Since Linux 5.10 the
counters are readable by root alone, unless the administrator has changed that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("sys/class/powercap")
FOLDER_VARIABLE = "HARNESS_POWERCAP"
"""Names a folder that is read in place of /sys/class/powercap: in a container, where the host's is mounted; in a test, one of its own."""
MICRO = 1e6
HINT = "let this user read it: 'sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj', until the next start of the machine"


@dataclass(frozen=True, slots=True)
class Domain:
    """One counter in µJ, which starts again from 0 after ``range_uj``."""

    name: str
    path: Path
    range_uj: int


@dataclass(frozen=True, slots=True)
class Rapl:
    """The counters that can be read, and why there are none where there are none."""

    domains: tuple[Domain, ...] = ()
    trouble: str | None = None

    @property
    def ranges(self) -> Mapping[str, int]:
        return {domain.name: domain.range_uj for domain in self.domains}

    def read(self) -> dict[str, int]:
        """Every counter in µJ by domain; one that has gone is left out."""
        found = {}
        for domain in self.domains:
            value = _number(domain.path)
            if value is not None:
                found[domain.name] = value
        return found


def find_rapl(root: Path | None = None, environment: Mapping[str, str] = os.environ) -> Rapl:
    """The counters under ``root``; where none is given, those of the folder that ``environment`` names, or of this machine.

    Nothing is raised: what cannot be read is named in ``trouble``.
    """
    named = environment.get(FOLDER_VARIABLE) if root is None else None
    folder = Path(named) if named else (root or Path("/")) / POWERCAP
    zones = sorted(zone for zone in folder.glob("intel-rapl:*") if (zone / "energy_uj").exists())
    if not zones and named:
        return Rapl(trouble=f"${FOLDER_VARIABLE} is {named}, where there is no energy counter (no intel-rapl:*/energy_uj)")
    if not zones:
        return Rapl(
            trouble="this machine shows no energy counter of its CPU (no /sys/class/powercap/intel-rapl:*), as most virtual machines"
        )
    names = {zone: _text(zone / "name") or zone.name for zone in zones}
    wanted = [zone for zone in zones if names[zone].startswith("package") or names[zone] == "dram"]
    domains, refused = [], []
    for zone in wanted:
        name = _full_name(zone, names)
        value, limit = _number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")
        if value is None or not limit:
            refused.append(name)
        else:
            domains.append(Domain(name, zone / "energy_uj", limit))
    if refused:  # the energy of a part of the CPU would be taken for that of the whole
        return Rapl(trouble=f"the energy counter of {', '.join(refused)} cannot be read: {HINT}")
    if not domains:
        return Rapl(trouble="none of this machine's powercap zones is a CPU package")
    return Rapl(tuple(domains))


def _full_name(zone: Path, names: Mapping[Path, str]) -> str:
    """``package-0``; of a part, ``package-0 dram``: two packages have two of them."""
    parent, _, part = zone.name.rpartition(":")
    above = next((name for other, name in names.items() if other.name == parent), None)
    return names[zone] if above is None or not part else f"{above} {names[zone]}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdecimal() else None
