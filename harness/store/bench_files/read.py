"""Which tool wrote a file, and what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.core.errors import BadInput, Problem
from harness.store.bench_files import _google_benchmark, _pyperf, _pytest_benchmark
from harness.store.bench_files._document import loaded
from harness.store.bench_files.launches import BenchFile

KNOWN = "known are pytest-benchmark (--benchmark-json), pyperf (-o) and Google Benchmark (--benchmark_out, JSON)"


def read_bench_file(path: Path) -> BenchFile:
    """A file of any of the three tools. Raises BadInput, with file and key, for what is none of them, damaged, empty or no number."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(Problem(f"cannot be read: {error.strerror}", path)) from error
    document = loaded(data, path)
    digest = hashlib.sha256(data).hexdigest()
    benchmarks = document.get("benchmarks")
    if "machine_info" in document and "benchmarks" in document:
        reader, tool = _pytest_benchmark.read, "pytest-benchmark"
    elif "context" in document and "benchmarks" in document:
        reader, tool = _google_benchmark.read, "Google Benchmark"
    elif "version" in document and "benchmarks" in document:
        reader, tool = _pyperf.read, "pyperf"
    else:
        raise BadInput(_unknown(document, path))
    if benchmarks == []:
        raise BadInput(Problem("is empty: the run measured nothing", path, key="benchmarks", hint=f"{tool} was given no benchmark to run"))
    return reader(document, path, digest)


def _unknown(document: dict[str, object], path: Path) -> Problem:
    if "comparisons" in document and {"run", "trials"} & set(document):
        return Problem("is of a run of harness", path, hint="name the run: its id, its folder, or the result.json in it")
    keys = ", ".join(f"'{key}'" for key in list(document)[:5]) or "nothing"
    return Problem(f"is of no benchmark tool known here: it holds {keys}", path, hint=KNOWN)
