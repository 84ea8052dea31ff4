"""``harness init``: a first scenario, a folder for baselines and a CI workflow in the user's own repository."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import BadInput, Problem

STARTER = Path(__file__).parent / "starter"
TEMPLATE = ".template"
"""The ending of the user's Python files while they lie here: they are no modules of this package."""


def init_project(folder: Path) -> tuple[Path, ...]:
    """Write the starter files under ``folder`` and return their paths, those of ``scenarios/`` first.

    Nothing is overwritten: where any of them is there already, BadInput names every one and nothing is written.
    """
    files = {folder / _name(source): source for source in _sources()}
    if problems := [problem for path in files if (problem := _in_the_way(path, folder)) is not None]:
        raise BadInput(*dict.fromkeys(problems))
    for path, source in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(source.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(Problem(f"cannot be written: {error.strerror}", path=path)) from error
    return tuple(files)


def _sources() -> list[Path]:
    """The starter's files in the order in which a reader meets them: scenarios, then what they make, then hidden folders."""
    found = [path for path in STARTER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(found, key=lambda path: (_rank(path), path))


def _rank(path: Path) -> int:
    order = ("scenarios", "baselines", "reports")
    first = path.relative_to(STARTER).parts[0]
    return order.index(first) if first in order else len(order)


def _name(source: Path) -> Path:
    name = source.relative_to(STARTER)
    return name.with_suffix("") if name.suffix == TEMPLATE else name


def _in_the_way(path: Path, folder: Path) -> Problem | None:
    """A file that is there already, or a file where a folder is needed."""
    if path.exists() or path.is_symlink():
        hint = "move it away, or keep it: 'harness init' overwrites nothing"
        return Problem("is there already", path=path, hint=hint)
    above = [parent for parent in path.parents if parent == folder or parent.is_relative_to(folder)]
    blocked = next((parent for parent in above if parent.exists() and not parent.is_dir()), None)
    return None if blocked is None else Problem("is a file where a folder is needed", path=blocked)
