"""Is a GPU fit: its clock, heat, memory and company. Pure functions of what NVML told."""

from __future__ import annotations

from harness.core.checkup import Finding, State
from harness.engine.machine.readings import GpuReading, Readings

IDLE, HELD = "idle", "a setting"
"""Two reasons for a low clock that are no fault: nothing runs, or somebody has locked it."""
HARMLESS = (IDLE, HELD, "display")
GRAVE = ("hardware slowdown", "hardware heat", "power brake")
BUSY = 0.05
"""A GPU that others keep busy for more than this share of the time serves them in between."""
WARM_CELSIUS = 5.0
UNSEEN = "not visible"


def check_gpus(readings: Readings) -> list[Finding]:
    """Every check of every GPU; one line where none is visible."""
    if readings.gpus is None:
        return [Finding("GPU", State.NOT_VISIBLE, "no driver, or 'nvidia-ml-py' is not installed")]
    return [finding for gpu in readings.gpus for finding in check_gpu(gpu)]


def check_gpu(gpu: GpuReading) -> list[Finding]:
    return [check(gpu) for check in (_model, _persistence, _clock, _throttling, _power, _heat, _company, _memory)]


def _name(gpu: GpuReading, what: str) -> str:
    return f"GPU {gpu.index} {what}"


def _model(gpu: GpuReading) -> Finding:
    parts = {True: ", divided (MIG)", False: "", None: f", MIG {UNSEEN}"}
    return Finding(f"GPU {gpu.index}", State.FINE, gpu.name + parts[gpu.mig])


def _persistence(gpu: GpuReading) -> Finding:
    """Without it the driver unloads between launches, and every first call pays for it."""
    name = _name(gpu, "persistence")
    if gpu.persistence is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    if gpu.persistence:
        return Finding(name, State.FINE, "on")
    return Finding(name, State.NOTICE, "off", f"Run 'sudo nvidia-smi -i {gpu.index} -pm 1'.")


def _clock(gpu: GpuReading) -> Finding:
    """NVML does not tell of a lock as such: it shows as the reason why the clock is where it is, and only while the GPU is not idle."""
    name = _name(gpu, "clock")
    if gpu.sm_mhz is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    told = f"{gpu.sm_mhz:,} MHz" if gpu.max_sm_mhz is None else f"{gpu.sm_mhz:,} of {gpu.max_sm_mhz:,} MHz"
    if gpu.reasons is None or IDLE in gpu.reasons:
        return Finding(
            name, State.NOT_VISIBLE, f"{told}; whether it is locked is {UNSEEN}{'' if gpu.reasons is None else ' while it is idle'}"
        )
    if HELD in gpu.reasons:
        return Finding(name, State.FINE, f"{told}, locked")
    return Finding(name, State.NOTICE, f"{told}, free to move", f"Lock it below its highest: 'sudo nvidia-smi -i {gpu.index} -lgc MHZ'.")


def _throttling(gpu: GpuReading) -> Finding:
    name = _name(gpu, "throttling")
    if gpu.reasons is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    found = [reason for reason in gpu.reasons if reason not in HARMLESS]
    if not found:
        return Finding(name, State.FINE, "none")
    grave = any(reason in GRAVE for reason in found)
    advice = f"Cool it, or lock a lower clock: 'sudo nvidia-smi -i {gpu.index} -lgc MHZ'."
    return Finding(name, State.UNFIT if grave else State.NOTICE, ", ".join(found), advice)


def _power(gpu: GpuReading) -> Finding:
    name = _name(gpu, "power limit")
    if gpu.power_limit_w is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    usual = gpu.default_power_limit_w
    told = f"{gpu.power_limit_w:.0f} W" if usual is None else f"{gpu.power_limit_w:.0f} W, {usual:.0f} W by default"
    if usual is None or gpu.power_limit_w >= usual:
        return Finding(name, State.FINE, told)
    return Finding(name, State.NOTICE, told, f"Run 'sudo nvidia-smi -i {gpu.index} -pl {usual:.0f}'.")


def _heat(gpu: GpuReading) -> Finding:
    name = _name(gpu, "temperature")
    if gpu.celsius is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    if gpu.slowdown_celsius is None:
        return Finding(name, State.FINE, f"{gpu.celsius:.0f} °C; where it slows down is {UNSEEN}")
    told = f"{gpu.celsius:.0f} °C, slows down at {gpu.slowdown_celsius:.0f} °C"
    left = gpu.slowdown_celsius - gpu.celsius
    if left > WARM_CELSIUS:
        return Finding(name, State.FINE, told)
    return Finding(name, State.UNFIT if left <= 0 else State.NOTICE, told, "Let it cool down, or improve the cooling.")


def _company(gpu: GpuReading) -> Finding:
    """Other processes share its time in turns, which no pairing evens out."""
    name = _name(gpu, "company")
    busy = "" if gpu.utilization is None else f", busy {gpu.utilization * 100:.0f} % of the time"
    if gpu.others is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN + busy)
    if gpu.utilization is not None and gpu.utilization > BUSY:
        who = f"{len(gpu.others)} other {'process' if len(gpu.others) == 1 else 'processes'}" if gpu.others else "processes of others"
        return Finding(name, State.UNFIT, who + busy, "Wait until it is free, or choose another device: 'nvidia-smi' shows who uses it.")
    if gpu.others:
        told = f"process {', '.join(map(str, gpu.others[:4]))}{'' if len(gpu.others) <= 4 else ' and more'}{busy}"
        return Finding(name, State.NOTICE, told, "End what else computes on it, or choose another device.")
    return Finding(name, State.FINE, f"alone{busy}")


def _memory(gpu: GpuReading) -> Finding:
    name = _name(gpu, "ECC")
    if gpu.ecc is None:
        return Finding(name, State.NOT_VISIBLE, UNSEEN)
    if gpu.ecc_errors:
        told = f"on, {gpu.ecc_errors:,} uncorrected errors"
        return Finding(name, State.UNFIT, told, f"Run 'sudo nvidia-smi -i {gpu.index} -r', and replace it if they come back.")
    return Finding(name, State.FINE, "on" if gpu.ecc else "off")
