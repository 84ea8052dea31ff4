"""What telemetry costs the latency that it stands beside: ``python -m tests.benchmarks.telemetry_overhead``.

Launch pairs of the product's own procedure, the same artifact in both arms, telemetry on the slices of one arm alone: the ratio of both is
what it costs. In turn with them, pairs of the same artifact without any telemetry: what identical code gives on this machine in this hour.
On a machine with a GPU, name a scenario and ``--only`` a trial that runs on it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.environment import Environment
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.measurement import Run
from harness.core.plan import Trial
from harness.core.progress import Silent
from harness.core.scenario import TelemetrySpec
from harness.engine import toolchain
from harness.engine.build import Builder
from harness.engine.evaluate import metric_of
from harness.engine.job import Job
from harness.engine.launcher import Launcher
from harness.engine.make_plan import make_plan
from harness.engine.measure import launch
from harness.engine.procedure import Procedure
from harness.engine.protocol import Subject
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenarios
from harness.engine.telemetry.watch import Watch, watching
from harness.stats.paired import ratio_interval
from harness.store.baselines import Baselines
from harness.store.cache import Cache, cache_folder, cache_limit
from harness.store.runs import RunFolder

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "measurements" / "telemetry.md"
METRICS = ("latency_p50", "latency_mean", "latency_p90")
ARMS = ("baseline", "candidate")
LEVEL = 0.95
LOOKS = 200


@dataclass(frozen=True, slots=True)
class Found:
    """The log ratios of the launch pairs by metric, with telemetry on the candidate's slices and without any."""

    watched: dict[str, list[float]]
    plain: dict[str, list[float]]
    look_us: float
    turn_us: float
    gauges: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="?", type=Path, default=ROOT / "scenarios" / "quickstart.yaml")
    parser.add_argument("--only", default="quickstart/int8-*", help="the trial (%(default)s)")
    parser.add_argument("--pairs", type=int, default=40, help="launch pairs of each kind (%(default)s)")
    parser.add_argument("--period", default="100 ms", help="how often telemetry looks (%(default)s)")
    parser.add_argument("--into", type=Path, default=PAGE, help="the page (%(default)s)")
    options = parser.parse_args()
    spec = TelemetrySpec.model_validate({"period": options.period})
    environment = read_environment(ROOT)
    (trial, *_) = make_plan(read_scenarios([options.scenario]), environment, only=[options.only]).trials
    with tempfile.TemporaryDirectory(prefix="telemetry-overhead-") as scratch:
        subject, found = measured(trial, environment, Path(scratch), spec, options.pairs)
    options.into.write_text(page(trial, subject, environment, spec, found))


def measured(trial: Trial, environment: Environment, scratch: Path, spec: TelemetrySpec, pairs: int) -> tuple[Subject, Found]:
    with Cache(cache_folder(), cache_limit()) as cache, Launcher() as launcher:
        baselines = Baselines(trial.source.root)
        builder, folder = Builder(cache, scratch / "logs", Silent()), RunFolder(scratch)
        job = Job(environment, toolchain.installed(), builder, baselines, folder, Silent(), 0, 60.0, False, False, False, launcher)
        case = job.open_case(trial, None)
        subject = builder.subject(trial, case.derivation, builder.artifact(trial, case.derivation))
        usual = job.procedure(case)
        watched = with_telemetry(usual, spec, unwatched=frozenset({"baseline"}))
        plain = with_telemetry(usual, TelemetrySpec(off=True), unwatched=frozenset())
        ratios: dict[str, dict[str, list[float]]] = {kind: {metric: [] for metric in METRICS} for kind in ("watched", "plain")}
        arms = dict.fromkeys(ARMS, subject)
        for pair in range(2 * pairs):
            kind, procedure = ("watched", watched) if pair // 2 % 2 == pair % 2 else ("plain", plain)  # ABBA
            runs = launch(arms, pair, procedure, 0)
            for metric in METRICS:
                ratios[kind][metric].append(log_ratio(metric, runs, subject.batch_size))
            print(f"pair {pair + 1} of {2 * pairs}, {kind}: {ratios[kind]['latency_p50'][-1]:+.4f}", flush=True)  # noqa: T201
        with watching(spec, subject.device, subject.cores) as watch:
            assert watch is not None
            look_us, turn_us, gauges = costs(watch)
    return subject, Found(ratios["watched"], ratios["plain"], look_us, turn_us, gauges)


def with_telemetry(procedure: Procedure, spec: TelemetrySpec, *, unwatched: frozenset[str]) -> Procedure:
    times = procedure.times.model_copy(update={"telemetry": spec})
    return dataclasses.replace(procedure, times=times, unwatched=unwatched)


def log_ratio(metric: str, runs: dict[str, Run], batch_size: int) -> float:
    found = metric_of(metric).log_ratio(runs["baseline"], runs["candidate"], batch_size)  # type: ignore[union-attr]  # a launch metric
    if isinstance(found, Absent):
        raise SystemExit(f"{metric}: {found.reason}")
    return found


def costs(watch: Watch) -> tuple[float, float, tuple[str, ...]]:
    """The median time in µs of one look, and of what both ends of a slice cost; and what is looked at."""
    looks, turns = [], []
    for _ in range(LOOKS):
        begin = time.perf_counter_ns()
        with watch.slice("candidate", os.getpid()):
            inside = time.perf_counter_ns()
            watch.look()
            seen = time.perf_counter_ns()
        turns.append(time.perf_counter_ns() - seen + inside - begin)
        looks.append(seen - inside)
    watch.end()
    told = watch.telemetry("candidate")
    gauges = [f"{spread.source} {spread.gauge}" for spread in told.spreads] + [f"energy of {energy.domain}" for energy in told.energies]
    return statistics.median(looks) / 1e3, statistics.median(turns) / 1e3, tuple(gauges)


def page(trial: Trial, subject: Subject, environment: Environment, spec: TelemetrySpec, found: Found) -> str:
    rows = []
    for metric in METRICS:
        with_it, without = (interval(ratios[metric]) for ratios in (found.watched, found.plain))
        rows.append(f"| {metric} | {percent(found.watched[metric], with_it)} | {percent(found.plain[metric], without)} |")
    share = found.look_us / (spec.period / 1e3) * 100
    where = "the parent's cores are the workers' own: the worst case" if parent_shares(subject.cores) else "the parent may use other cores"
    return f"""<!-- Generated by python -m tests.benchmarks.telemetry_overhead. Do not edit. -->
# What telemetry costs

Launch pairs through the procedure of the gate, the same artifact in both arms, with telemetry on the slices of one arm alone; in turn with
them (ABBA), pairs without any. Told is the change of the watched arm's latency, the mean over launch pairs with its {LEVEL * 100:.0f} %
interval (t), and the same of the pairs without: what identical code gives here. In a gate both arms are watched.

- {environment.cpu_model}, {len(subject.cores)} of {environment.cpu_count} cores used ({where}); {subject.device}
- {trial.id}, {len(found.plain[METRICS[0]])} launch pairs of each kind, telemetry every {spec.period / 1e6:g} ms
- commit `{(environment.commit or "none")[:12]}`{", changed since" if environment.dirty else ""}
- seen: {", ".join(found.gauges)}

| metric | watched against not watched | neither watched |
| --- | --- | --- |
{chr(10).join(rows)}

One look takes {found.look_us:,.0f} µs of the parent's time (median of {LOOKS}): {share:.2f} % of one core. Reading the counters at both
ends of a slice takes {found.turn_us:,.0f} µs, outside of the timed region.

What is not in the list above was not there to be read on this machine, and its cost is not in these numbers. `python -m
tests.benchmarks.telemetry_overhead SCENARIO --only TRIAL` measures it on another.
"""


def parent_shares(cores: Sequence[int]) -> bool:
    return os.sched_getaffinity(0) <= set(cores)


def interval(ratios: Sequence[float]) -> ConfidenceInterval:
    return ratio_interval(ratios, LEVEL)


def percent(ratios: Sequence[float], shown: ConfidenceInterval) -> str:
    mean = statistics.fmean(ratios)
    return f"{mean * 100:+.2f} % ({(shown.low - 1) * 100:+.2f} % to {(shown.high - 1) * 100:+.2f} %)"


if __name__ == "__main__":
    main()
