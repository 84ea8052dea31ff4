"""What this machine's CPU can do, as far as a test's numbers depend on it."""

from pathlib import Path

import pytest

from harness.engine.reasons.passes import INT8_FLAGS


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


FLAGS = _flags()
whole_int8_products = pytest.mark.skipif(
    bool(FLAGS) and not FLAGS.intersection(INT8_FLAGS),
    reason="sums of int8 products saturate without VNNI: these numbers are of a CPU that has it",
)
"""For tests of how near int8 answers come: without VNNI they are what reduce_range is for."""
