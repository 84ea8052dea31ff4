"""Runs to machines: a target on the hardware that it was measured on. Several runs of one are its sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.core.environment import Environment
from harness.core.purchase import Machine, Price
from harness.engine.compare_machines.prices import Prices
from harness.engine.compare_machines.same_work import Measured, all_versions

Key = tuple[str, str, int, int, tuple[str, ...], str, int | None, int | None]


def find_machines(records: Sequence[Measured], prices: Prices) -> tuple[list[Machine], list[Measured]]:
    """The machines in the order of their first run, and the records with their names.

    Targets of one name on different hardware get a name each. Raises BadInput as ``Prices.of`` does.
    """
    groups: dict[Key, list[Measured]] = defaultdict(list)
    for record in records:
        groups[_key(record)].append(record)
    names = _names(list(groups))
    prices.check({names[key]: group[0].trial.hardware for key, group in groups.items()})
    machines, named = [], []
    for key, group in groups.items():
        machines.append(_machine(names[key], group, prices))
        named += [replace(record, machine=names[key]) for record in group]
    return machines, named


def _key(record: Measured) -> Key:
    environment, trial = record.result.environment_of(record.trial), record.trial
    gpus = () if trial.device == "cpu" else tuple(gpu.name for gpu in environment.gpus)
    return (
        _label(record),
        environment.cpu_model,
        environment.cpu_count,
        round(environment.memory_bytes / 2**30),
        gpus,
        trial.device,
        _cores(record),
        trial.facts.threads if trial.facts else None,
    )


def _label(record: Measured) -> str:
    """What the user calls the machine, with the target where the run has several; else the target's name."""
    name, target = record.given.name, record.trial.hardware
    if name is None:
        return target
    return name if len({trial.hardware for trial in record.result.trials if trial.estimates}) == 1 else f"{name}-{target}"


def _cores(record: Measured) -> int | None:
    """What launches were pinned to; a target without 'cores' has all that the machine has."""
    target = record.trial.target
    return None if target is None else target.cores or record.result.environment_of(record.trial).cpu_count


def _names(keys: Sequence[Key]) -> dict[Key, str]:
    """The target's name, with its hardware or its place where several machines share it."""
    names: dict[Key, str] = {}
    for key in keys:
        alike = [other for other in keys if other[0] == key[0]]
        if len(alike) == 1:
            names[key] = key[0]
        else:
            names[key] = f"{key[0]}-{alike.index(key) + 1}"
    return names


def _machine(name: str, group: Sequence[Measured], prices: Prices) -> Machine:
    first, newest = group[0], group[-1]
    environment = newest.result.environment_of(newest.trial)
    ids = dict.fromkeys(record.result.id for record in group)
    times = {record.result.id: record.result.started_at for record in group}
    written = newest.trial.target
    own = (
        None if written is None or written.price_per_hour is None else Price(written.price_per_hour, written.currency, "the run's scenario")
    )
    versions: dict[str, str] = {}
    for record in group:
        versions |= all_versions(record)
    return Machine(
        name=name,
        target=first.trial.hardware,
        cpu=environment.cpu_model,
        cpu_count=environment.cpu_count,
        cores=_cores(newest),
        threads=newest.trial.facts.threads if newest.trial.facts else None,
        device=newest.trial.device,
        gpus=tuple(gpu.name for gpu in environment.gpus) if newest.trial.device != "cpu" else (),
        memory_bytes=_memory(environment, newest.trial.device),
        runs=tuple(ids),
        measured=tuple(times[identity] for identity in ids),
        price=prices.of(name, first.trial.hardware, own, written.currency if written else None),
        versions=dict(sorted(versions.items())),
    )


def _memory(environment: Environment, device: str) -> int:
    """Of the device that the model runs on: a GPU's own where it is one."""
    if device == "cpu" or not environment.gpus:
        return environment.memory_bytes
    return environment.gpus[int(device.partition(":")[2] or 0) if device.startswith("cuda:") else 0].memory_bytes


def differing(machines: Sequence[Machine]) -> list[str]:
    """Versions that are not the same on all machines that have them: told, for they are a part of what is bought."""
    told = []
    for name in sorted({name for machine in machines for name in machine.versions}):
        values: Mapping[str, str] = {machine.name: machine.versions[name] for machine in machines if name in machine.versions}
        if len(set(values.values())) > 1:
            told.append(f"{name}: " + ", ".join(f"{value} on {machine}" for machine, value in values.items()))
    return told
