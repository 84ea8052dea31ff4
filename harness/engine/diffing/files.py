"""``harness diff`` of two arms of benchmark files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.core.comparison import Verdict
from harness.core.errors import BadInput, Problem
from harness.core.units import Unit
from harness.engine.diffing.launches import LEAST_LAUNCHES, Figure, Question, compare_unpaired, order_of, told_only
from harness.engine.diffing.report import Arm, Difference, DiffReport, Row, Unmatched
from harness.store.bench_files import BenchFile, BenchLaunch

TOLERANCE = 0.02
"""As for the median latency in the gate."""
METRICS = {Unit.NANOSECONDS: "time", Unit.BYTES: "memory", Unit.NUMBER: "value"}
N_OF = "process launches"
SEVERAL = "record 5 or more launches an arm in turn (base, head, head, base, ...)"


@dataclass(frozen=True, slots=True)
class _Side:
    """One arm's files and their launches by benchmark."""

    files: Sequence[BenchFile]

    @property
    def launches(self) -> list[BenchLaunch]:
        return [launch for file in self.files for launch in file.launches]

    def of(self, benchmark: str) -> list[BenchLaunch]:
        return [launch for launch in self.launches if launch.benchmark == benchmark]

    def names(self) -> list[str]:
        """Every benchmark that is named, measured or not, in the order of the files."""
        return list(dict.fromkeys([*(launch.benchmark for launch in self.launches), *(n for file in self.files for n in file.unmeasured)]))

    def why_not(self, benchmark: str) -> str:
        reasons = [file.unmeasured[benchmark] for file in self.files if benchmark in file.unmeasured]
        return reasons[0] if reasons else "not there"

    @property
    def tool(self) -> str:
        return ", ".join(sorted({file.tool for file in self.files}))

    @property
    def family(self) -> str:
        """The tool without its version."""
        return self.files[0].tool.rstrip("0123456789. ")

    def told(self) -> Arm:
        sources = dict.fromkeys(_source(file) for file in self.files if file.source)
        units = max((len(self.of(name)) for name in self.names()), default=0)
        return Arm(tuple(str(file.path) for file in self.files), self.tool, units, N_OF, tuple(sources))


def diff_files(baseline: Sequence[BenchFile], candidate: Sequence[BenchFile], tolerance: float | None = None) -> DiffReport:
    """Every benchmark that both arms have. Raises BadInput for files of several tools, or one file given twice."""
    base, head = _Side(baseline), _Side(candidate)
    _refuse_mixed([*baseline, *candidate])
    differences = tuple(_differences(base, head))
    order = _order(base, head)
    elsewhere = [difference.what for difference in differences if difference.machine]
    cap = _cap(base, head, order)
    common = [name for name in base.names() if base.of(name) and head.of(name)]
    questions = [_question(name, base.of(name), head.of(name), TOLERANCE if tolerance is None else tolerance, cap) for name in common]
    if elsewhere:
        rows = [told_only(question, f"not compared: another machine ({', '.join(elsewhere)})") for question in questions]
    else:
        rows = compare_unpaired(questions)
    return DiffReport(
        baseline=base.told(),
        candidate=head.told(),
        order=order,
        differences=differences,
        rows=tuple(rows),
        unmatched=tuple(_unmatched(base, head)),
        notes=tuple(_notes(base, head)),
        next_steps=tuple(_next_steps(rows, order, elsewhere, base.family)),
    )


def _refuse_mixed(files: Sequence[BenchFile]) -> None:
    families = sorted({_Side([file]).family for file in files})
    if len(families) > 1:
        told = " and ".join(families)
        raise BadInput(Problem(f"files of {told} cannot be compared: they time in different ways", hint="give both arms files of one tool"))
    seen: dict[str, BenchFile] = {}
    for file in files:
        if file.digest in seen:
            other = seen[file.digest].path
            told = "is given twice" if other == file.path else f"holds the same bytes as {other}"
            raise BadInput(Problem(f"{told}: a launch counts once", file.path, hint="name each file once, in one arm"))
        seen[file.digest] = file


def _question(name: str, baseline: list[BenchLaunch], candidate: list[BenchLaunch], tolerance: float, cap: str | None) -> Question:
    units = {launch.unit for launch in (*baseline, *candidate)}
    if len(units) > 1:
        raise BadInput(Problem(f"'{name}' is in {' and '.join(sorted(units))}: the arms do not measure the same"))
    (unit,) = units
    before, after = (tuple(Figure(launch.figure, launch.at) for launch in arm) for arm in (baseline, candidate))
    return Question(name, METRICS[unit], unit, "lower", tolerance, 0.0, before, after, N_OF, cap)


def _differences(base: _Side, head: _Side) -> Iterable[Difference]:
    """What both arms must share first (within an arm too), then what is only told."""
    for machine in (True, False):
        arms = [[launch.place.machine if machine else launch.place.facts for launch in side.launches] for side in (base, head)]
        for name in dict.fromkeys(key for arm in arms for place in arm for key in place):
            before, after = ({place.get(name, "not told") for place in arm} for arm in arms)
            if before != after or (machine and len(before) > 1):
                yield Difference(name, ", ".join(sorted(before)), ", ".join(sorted(after)), machine)
    hosts = [{launch.place.host or "not told" for launch in side.launches} for side in (base, head)]
    if hosts[0] != hosts[1]:
        yield Difference("host", ", ".join(sorted(hosts[0])), ", ".join(sorted(hosts[1])), machine=False)


def _cap(base: _Side, head: _Side, order: str) -> str | None:
    """Why nothing may be concluded of these launches, whatever their interval says."""
    launches = [*base.launches, *head.launches]
    if not any(launch.place.machine for launch in launches):
        return "the files do not tell their machine: nothing shows that it was one"
    hosts = [{launch.place.host for launch in side.launches} for side in (base, head)]
    if hosts[0] != hosts[1]:
        return "the arms ran on different hosts: two of one kind differ by more than most changes do"
    if order == "in blocks":
        return "the arms ran in blocks, not in turn: a slow hour looks like a slow arm"
    if order == "unknown":
        return "the files do not tell in which order the launches ran: a slow hour looks like a slow arm"
    return None


def _order(base: _Side, head: _Side) -> str:
    """Of the benchmark with most launches; all of a file are of one time."""
    common = [name for name in base.names() if base.of(name) and head.of(name)]
    orders = [order_of(_times(base.of(name)), _times(head.of(name))) for name in common]
    return next((order for order in ("unknown", "in blocks") if order in orders), "interleaved" if orders else "unknown")


def _times(launches: Iterable[BenchLaunch]) -> list[datetime | None]:
    return [launch.at for launch in launches]


def _unmatched(base: _Side, head: _Side) -> Iterable[Unmatched]:
    for name in dict.fromkeys([*base.names(), *head.names()]):
        missing = [f"in the {arm}: {side.why_not(name)}" for arm, side in (("baseline", base), ("candidate", head)) if not side.of(name)]
        if missing:
            yield Unmatched(name, "; ".join(missing))


def _notes(base: _Side, head: _Side) -> Iterable[str]:
    for arm, side in (("baseline", base), ("candidate", head)):
        sources = {_source(file) for file in side.files}
        if len(sources) > 1:
            yield f"the files of the {arm} are of several commits: {', '.join(sorted(sources))}"
        for file in side.files:
            yield from file.notes
            for name, reason in file.unmeasured.items():
                if side.of(name):
                    yield f"{file.path.name} has no number of {name}: {reason}"
    both = [{_source(file) for file in side.files} for side in (base, head)]
    if both[0] == both[1] and all(file.source and file.dirty is False for file in (*base.files, *head.files)) and len(both[0]) == 1:
        yield f"both arms are of {both[0].pop()}: where nothing else differs this compares identical code"


def _source(file: BenchFile) -> str:
    if not file.source:
        return "no commit"
    return f"commit {file.source[:12]}{' with uncommitted changes' if file.dirty else ''}"


def _next_steps(rows: Sequence[Row], order: str, elsewhere: Sequence[str], family: str) -> Iterable[str]:
    more = (
        "one process at a time, appended to its arm's file ('-p 1 --append base.json')"
        if family == "pyperf"
        else "each a file: harness diff base*.json --with head*.json"
    )
    if not rows:
        yield "No benchmark is in both arms: measure the same ones in both."
    elif elsewhere:
        yield f"Measure both arms on one machine, in one job; {SEVERAL}, {more}."
    elif any(min(row.baseline_n, row.candidate_n) < LEAST_LAUNCHES for row in rows):
        yield f"To conclude something, {SEVERAL}, {more}; or let 'harness gate' measure both arms in pairs."
    elif order != "interleaved":
        yield f"To conclude something, record both arms in turn and not one after the other; {SEVERAL}, {more}."
    elif any(row.verdict is Verdict.INCONCLUSIVE for row in rows):
        yield "Record more launches of both arms, in turn, or use a quieter machine."
