"""Does ``harness bisect`` find a planted slowdown: five searches by the real command line, each at another place of twelve commits.

``python -m tests.benchmarks.bisect`` writes docs/measurements/bisect.md and its data: about three minutes a search.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..verdict.workplace import my_turn
from .page import page_of
from .records import MACHINE, SEARCH, Search, this_machine
from .repository import BAD_UNITS, COMMITS, DOCUMENTS, GOOD_UNITS, HARMLESS, SCENARIO_PATH, Repository, make, places

SEARCHES = 5
SEED = 20261128
BUDGET = "60s"
PUBLISHED = Path("docs/measurements")
FOLDER, DATA, NOTES, PAGE = "bisect", "searches.jsonl", "notes.txt", "bisect.md"
HARNESS = Path(sys.executable).with_name("harness")


def search(repository: Repository, seed: int, cache: Path) -> Search:
    """Run one. Raises RuntimeError, with what it said, when it ended in any way but an answer."""
    command = [str(HARNESS), "bisect", SCENARIO_PATH, "--good", repository.good, "--budget", BUDGET, "--json"]
    begin = time.monotonic()
    done = subprocess.run(
        command,
        cwd=repository.root,
        env=os.environ | {"HARNESS_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begin
    if done.returncode not in (0, 3) or not done.stdout:
        raise RuntimeError(f"harness bisect ended with {done.returncode}")
    told = json.loads(done.stdout)
    found = told["found"]
    effect = found["effect"] if found else None
    return Search(
        place=repository.place,
        seed=seed,
        right=done.returncode == 0 and found is not None and found["commit"]["hash"] == repository.planted,
        exit_code=done.returncode,
        outcome=told["outcome"],
        headline=told["headline"],
        ratio=effect["ratio"] if effect else None,
        low=effect["interval"]["low"] if effect else None,
        high=effect["interval"]["high"] if effect else None,
        query_ns=told["effect"]["baseline"] if told["effect"] else None,
        steps=len(told["steps"]),
        pairs=told["pairs"],
        seconds=round(seconds, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searches", type=int, default=SEARCHES, help="how many, each at another place (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the places and the order of the other commits (%(default)s)")
    parser.add_argument("--into", type=Path, default=PUBLISHED, help="folder of the page (%(default)s)")
    parser.add_argument("--publish", action="store_true", help="search nothing, write the page again")
    options = parser.parse_args()
    if options.publish:
        return publish(options.into, options.seed)
    machine, searches = this_machine(), []
    for number, place in enumerate(places(options.searches, options.seed)):
        with my_turn(), tempfile.TemporaryDirectory(prefix="bisect-benchmark-", ignore_cleanup_errors=True) as folder:
            repository = make(Path(folder) / "repository", place, options.seed + number)
            found = search(repository, options.seed + number, Path(folder) / "cache")
        searches.append(found)
        right = "found" if found.right else "NOT FOUND"
        print(f"place {place}: {right} in {found.seconds:.0f} s and {found.pairs} launch pairs: {found.headline}", flush=True)  # noqa: T201
    (options.into / FOLDER).mkdir(parents=True, exist_ok=True)
    lines = [MACHINE.dump_json(machine), *map(SEARCH.dump_json, searches)]
    (options.into / FOLDER / DATA).write_bytes(b"\n".join(lines) + b"\n")
    publish(options.into, options.seed)
    sys.exit(0 if all(one.right for one in searches) else 1)


def publish(into: Path, seed: int) -> None:
    """Write the page from the data, and from notes.txt beside them: by hand, how this repetition was made."""
    first, *others = (into / FOLDER / DATA).read_bytes().splitlines()
    notes = into / FOLDER / NOTES
    facts = {
        "commits": COMMITS,
        "documents": DOCUMENTS,
        "harmless": len(HARMLESS),
        "good_units": GOOD_UNITS,
        "bad_units": BAD_UNITS,
        "planted": f"{(BAD_UNITS / GOOD_UNITS - 1) * 100:.3g}",
        "seed": seed,
        "budget": BUDGET,
        "notes": f" {notes.read_text(encoding='utf-8').strip()}" if notes.is_file() else "",
    }
    page = page_of(MACHINE.validate_json(first), [SEARCH.validate_json(line) for line in others], facts)
    (into / PAGE).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
