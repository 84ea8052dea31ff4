"""All steps, one after the other: ``python -m tests.benchmarks.verdict``. It goes on where it was stopped."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from . import compare_rivals, decide, gates, pytest_runs
from .collect import DATA, PAIRS, collect
from .gates import gates_in
from .machine import note_machine
from .publish import PUBLISHED, publish
from .pytest_runs import pytest_pairs_in
from .records import pairs_in

FOREVER = float("inf")
log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what is measured (%(default)s)")
    parser.add_argument("--into", type=Path, default=PUBLISHED, help="folder of the page (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    note_machine(options.data)
    log.info("launch pairs")
    collect(pairs_in(options.data), seconds=FOREVER, pairs=PAIRS, only=None)
    log.info("whole gates")
    gates.run(gates_in(options.data), gates=gates.GATES, planted=gates.PLANTED_GATES, seconds=FOREVER)
    log.info("pytest-benchmark")
    pairs, long_pairs = pytest_runs.PAIRS, pytest_runs.LONG_PAIRS
    pytest_runs.run(pytest_pairs_in(options.data), pairs=pairs, long_pairs=long_pairs, seconds=FOREVER)
    log.info("resampling")
    decide.resample(options.data, decisions=decide.DECISIONS, only=None, processes=2)
    compare_rivals.compare(options.data, decisions=compare_rivals.DECISIONS, only=None, processes=2)
    log.info("wrote %s", publish(options.data, options.into))


if __name__ == "__main__":
    main()
