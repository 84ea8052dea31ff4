"""Results of other benchmark tools: pytest-benchmark, pyperf and Google Benchmark, each read in a file of its own.

What each file holds is told in process launches: the only evidence that counts here. A pytest-benchmark or Google Benchmark file is one
launch of everything in it, whatever number of rounds or repetitions it has; a pyperf file holds one launch for each of its runs.
"""

from harness.store.bench_files.launches import BenchFile, BenchLaunch, Place
from harness.store.bench_files.read import read_bench_file
from harness.store.bench_files.write import FORMATS, written_files

__all__ = ["FORMATS", "BenchFile", "BenchLaunch", "Place", "read_bench_file", "written_files"]
