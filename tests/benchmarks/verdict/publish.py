"""Write ``docs/measurements/verdict.md`` with its data and charts: ``python -m tests.benchmarks.verdict.publish``.

Every number on the page comes from the data files; without new data the page comes out the same.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from . import plots, tables
from .cells import WORKLOADS
from .collect import DATA
from .compare_rivals import rivals_in
from .decide import coverages_in, powers_in
from .gates import gates_in
from .machine import Machine, machines_in
from .page import PAGE
from .pytest_runs import pytest_pairs_in
from .records import pairs_in
from .summary import Summary, read_summary

PUBLISHED = Path("docs/measurements")
NAME = "verdict"


NOTES = "notes.txt"
"""Beside the data, written by hand: how this repetition was made other than by the one command. It goes into the page as it is."""


def page_of(summary: Summary, notes: str = "") -> str:
    """The page, as Markdown."""
    if not summary.machines:
        raise SystemExit("there is nothing to publish: run the steps before this one first")
    charts = {f"chart_{name}": f"![{label}]({NAME}/{name}.svg)" for name, (_, label) in plots.CHARTS.items()}
    hours = summary.hours
    page = PAGE.format(
        **charts,
        machine=_machine(summary.machines),
        workloads="\n".join(_workload(summary, name) for name in WORKLOADS),
        notes=f" {notes}" if notes else "",
        neighbour=summary.machines[-1].neighbour,
        targets=tables.targets(summary),
        truths=tables.truths(summary),
        decisions=tables.decisions(summary, 0.02),
        sharp_decisions=tables.decisions(summary, 0.005),
        gates=tables.gates(summary),
        rules="\n\n".join(f"{workload.told}:\n\n{tables.rules(summary, name, 'apart')}" for name, workload in WORKLOADS.items()),
        rules_together="\n\n".join(
            f"{workload.told}:\n\n{tables.rules(summary, name, 'together')}" for name, workload in WORKLOADS.items()
        ),
        pytest_benchmark=tables.pytest_benchmark(summary),
        coverage=tables.coverage(summary, "latency_p50", whole=True),
        coverage_single=tables.coverage(summary, "latency_p50", whole=False),
        remedies=tables.remedies(summary),
        farthest=tables.farthest(summary),
        coverage_p90=tables.coverage(summary, "latency_p90", whole=True),
        hours=", ".join(f"{value:.1f} h {name}" for name, value in hours.items()),
        all_hours=f"{sum(hours.values()):.1f}",
    )
    return re.sub(r"(?<![:\d.])(\d+(?:\.\d+)?)%", r"\1 %", page)  # but not in mean:5%


def _rules(summary: Summary, way: str) -> str:
    return "\n\n".join(f"{workload.told}:\n\n{tables.rules(summary, name, way)}" for name, workload in WORKLOADS.items())


def _machine(machines: Sequence[Machine]) -> str:
    last = machines[-1]
    commits = [f"`{machine.commit[:12]}`{' with changes' if machine.dirty else ''}" for machine in machines if machine.commit]
    kind = {True: "a virtual machine", False: "a machine of its own", None: "whether virtual is not known"}[last.virtual_machine]
    packages = ", ".join(f"{name} {version}" for name, version in last.packages.items())
    return "\n".join(
        (
            f"- {last.cpu_model}, {last.cpu_count} cores, {last.memory_bytes / 2**30:.0f} GiB, {kind}",
            f"- {last.os}, kernel {last.kernel}, governor {last.governor or 'not known'}; Python {last.python}; {packages}",
            f"- begun {machines[0].since}; commits {', '.join(dict.fromkeys(commits)) or 'not known'}",
        )
    )


def _workload(summary: Summary, name: str) -> str:
    workload, (warm_up_s, duration_s) = WORKLOADS[name], summary.machines[-1].times[name]
    pair_s = tables.pair_seconds(summary, name)
    return (
        f"- **{name}**: {workload.told}; a launch warms up for {warm_up_s:g} s and is measured for {duration_s:g} s; a launch pair takes"
        f" {pair_s:.1f} s, process starts included; a trial has {workload.budget_s:.0f} s"
    )


def publish(data: Path, published: Path) -> Path:
    """Pack the data, read them back, draw and write; where the page is."""
    folder = published / NAME
    for lines in (pairs_in, gates_in, powers_in, coverages_in, rivals_in, pytest_pairs_in, machines_in):
        if lines(data).path.is_file():
            lines(data).pack(folder)
    summary = read_summary(folder)
    if (data / NOTES).is_file():
        (folder / NOTES).write_bytes((data / NOTES).read_bytes())
    notes = (folder / NOTES).read_text(encoding="utf-8").strip() if (folder / NOTES).is_file() else ""
    text = page_of(summary, notes)
    for name, (chart, _) in plots.CHARTS.items():
        (folder / f"{name}.svg").write_text(plots.svg(chart(summary)), encoding="utf-8")
    page = published / f"{NAME}.md"
    page.write_text(text, encoding="utf-8")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what was measured (%(default)s)")
    parser.add_argument("--into", type=Path, default=PUBLISHED, help="folder of the page (%(default)s)")
    options = parser.parse_args()
    print(publish(options.data, options.into))  # noqa: T201


if __name__ == "__main__":
    main()
