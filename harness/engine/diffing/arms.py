"""The names on the command line to two arms, and their comparison: runs with runs, files with files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.comparison import Verdict
from harness.core.errors import BadInput, ExitCode, Problem
from harness.core.units import Notation, Unit, parse_quantity
from harness.engine.diffing.files import diff_files
from harness.engine.diffing.runs import diff_runs
from harness.store.bench_files import read_bench_file
from harness.store.runs import RESULT, RunFolder, Runs

if TYPE_CHECKING:
    from harness.engine.diffing.report import DiffReport

EVERY = ""
"""The key of a tolerance that was given without a metric."""


def diff(baseline: Sequence[str], candidate: Sequence[str], reports: Path, tolerances: Sequence[str] = ()) -> DiffReport:
    """Compare two arms. Raises BadInput for what is neither, and for runs beside files."""
    asked = dict(_tolerance(text) for text in tolerances)
    is_file = {name: _is_bench_file(name) for name in (*baseline, *candidate)}
    if all(is_file.values()):
        metrics = [metric for metric in asked if metric != EVERY]
        if metrics:
            raise BadInput(Problem(f"--tolerance {metrics[0]}=...: benchmark files have no such metric", hint="write --tolerance '3 %'"))
        before, after = ([read_bench_file(Path(name)) for name in arm] for arm in (baseline, candidate))
        return diff_files(before, after, asked.get(EVERY))
    if any(is_file.values()):
        file, run = (next(name for name, value in is_file.items() if value is kind) for kind in (True, False))
        hint = "'harness export bench-file RUN --format pyperf' writes a run as such a file"
        raise BadInput(Problem(f"'{file}' is a benchmark file and '{run}' a run: the arms must be of one kind", hint=hint))
    runs = Runs(reports)
    first, second = ([_folder(runs, name).result() for name in arm] for arm in (baseline, candidate))
    return diff_runs(first, second, _by_metric(asked))


def exit_code_of(report: DiffReport, *, fail: bool) -> ExitCode:
    """0, for a diff only reports. With ``fail`` 1 where a regression is concluded, else 3 where anything is not decided or was not
    compared."""
    if not fail:
        return ExitCode.PASS
    verdicts = {row.verdict for row in report.rows}
    if Verdict.REGRESSED in verdicts:
        return ExitCode.REGRESSION
    undecided = not report.rows or report.unmatched or verdicts & {Verdict.INCONCLUSIVE, Verdict.INVALID}
    return ExitCode.NOT_DECIDED if undecided else ExitCode.PASS


def _is_bench_file(name: str) -> bool:
    """A file that is no run's result. Raises BadInput for a path that is not there."""
    path = Path(name)
    if path.is_file():
        return path.name != RESULT
    if not path.exists() and path.suffix in (".json", ".gz"):
        raise BadInput(Problem("there is no such file", path))
    return False


def _folder(runs: Runs, name: str) -> RunFolder:
    path = Path(name)
    if path.is_file():
        return RunFolder(path.resolve().parent)
    if path.is_dir() and not (path / RESULT).is_file() and any(path.glob("*.json")):
        raise BadInput(Problem("is a folder of files, and no run", path, hint=f"name the files: {path}/*.json"))
    return runs.find(name)


def _tolerance(text: str) -> tuple[str, float]:
    """``3 %``, or ``latency_p50=3 %``: how much worse is tolerated, of every metric or of one."""
    metric, separator, quantity = text.rpartition("=")
    try:
        found = parse_quantity(quantity)
        if found.unit is not Unit.FRACTION or found.value < 0:
            raise ValueError(f"'{quantity}' is not a share")
        if not separator and found.notation is Notation.POINTS:
            raise ValueError("points are of one metric")
    except ValueError as error:
        raise BadInput(Problem(f"--tolerance: {error}", hint="write '3 %', or 'latency_p50=3 %', or 'accuracy=0.5 points'")) from error
    return metric.strip(), found.value


def _by_metric(asked: Mapping[str, float]) -> dict[str, float]:
    """One for every ratio, where it was given so; raises BadInput for a metric that is not there."""
    import difflib

    from harness import plugins
    from harness.engine.evaluate import metric_of

    known = plugins.names("metrics")
    for metric in asked:
        if metric not in (EVERY, *known):
            near = difflib.get_close_matches(metric, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else "'harness list metrics' shows all"
            raise BadInput(Problem(f"--tolerance: unknown metric '{metric}'", hint=hint))
    launch = [name for name in known if metric_of(name).kind == "launch" and metric_of(name).tolerance is not None]
    every = dict.fromkeys(launch, asked[EVERY]) if EVERY in asked else {}
    return {**every, **{metric: value for metric, value in asked.items() if metric != EVERY}}
