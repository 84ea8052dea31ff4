"""The project's own code that a file runs: followed through its imports by the syntax tree, without running anything."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_OPENING = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")}
_CLOSING = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")}
"""The ends of a string that newer Pythons take apart."""


@dataclass(frozen=True, slots=True)
class CodeClosure:
    """Files inside the project, sorted, and the top-level names of all other imports."""

    files: tuple[Path, ...]
    imports: frozenset[str]

    def digest(self, root: Path) -> str:
        """SHA-256 over paths and code; comments, blank lines and line ends do not count."""
        total = hashlib.sha256()
        for path in self.files:
            total.update(f"{path.relative_to(root).as_posix()}\n{code_text(path)}\0".encode())
        return total.hexdigest()


def follow_imports(starts: Iterable[Path], root: Path) -> CodeClosure:
    """Everything inside ``root`` that the files import, directly or not. A file that is not valid Python counts as it is."""
    root = root.resolve()
    waiting = [path.resolve() for path in starts]
    found: set[Path] = set()
    foreign: set[str] = set()
    folders = {path.parent for path in waiting}
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for name, level in _imported(tree):
            inside = _locate(name, level, path, root, folders)
            if inside:
                waiting += inside
            elif level == 0:
                foreign.add(name.partition(".")[0])
    return CodeClosure(tuple(sorted(found)), frozenset(foreign))


def code_text(path: Path) -> str:
    """A file's code without comments, blank lines and trailing space, but for those in quotes; the same under every Python version."""
    text = path.read_text(encoding="utf-8", errors="replace")  # with every line end as a newline
    lines = text.split("\n")
    quoted: set[int] = set()  # rows that end inside quotes
    opened: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            (row, column), (last, _) = token.start, token.end
            if token.type == tokenize.COMMENT:
                lines[row - 1] = lines[row - 1][:column]
            elif token.type == tokenize.STRING:
                quoted.update(range(row, last))
            elif token.type in _OPENING:
                opened.append(row)
            elif token.type in _CLOSING:
                quoted.update(range(opened.pop(), last))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return text
    rows = enumerate(lines, start=1)
    return "\n".join(line if row in quoted else line.rstrip() for row, line in rows if row in quoted or line.strip())


def imported_names(tree: ast.Module) -> list[str]:
    """Every absolute name that a module imports: modules, and what is taken from them, which may be a module too."""
    return [name for name, level in _imported(tree) if level == 0]


def texts_in(tree: ast.Module) -> list[str]:
    """Every text that a module's code holds."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _imported(tree: ast.Module) -> list[tuple[str, int]]:
    names: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names.append((module, node.level))
            names += [(f"{module}.{alias.name}".strip("."), node.level) for alias in node.names if alias.name != "*"]
    return names


def _locate(name: str, level: int, importer: Path, root: Path, folders: set[Path]) -> list[Path]:
    """The files of a module inside the project: packages on the way, then the module."""
    if level:
        base = importer.parent
        for _ in range(level - 1):
            base = base.parent
        bases = [base]
    else:
        bases = [*sorted(folders), root, importer.parent]  # as user_code lays the path; a package's own folder is not on it
    for base in bases:
        found: list[Path] = []
        place = base
        for part in [part for part in name.split(".") if part]:
            package, module = place / part / "__init__.py", place / f"{part}.py"
            if package.is_file():
                found.append(package)
            elif module.is_file():
                found.append(module)
                break
            elif not (place / part).is_dir():
                break
            place = place / part
        if found and all(path.resolve().is_relative_to(root) for path in found):
            return [path.resolve() for path in found]
    return []
