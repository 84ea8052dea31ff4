"""The project's own code that a file runs: followed through its imports by the syntax tree, without running anything."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


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
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        for name, level in _imported(tree):
            inside = _locate(name, level, path, root, folders)
            if inside:
                waiting += inside
            elif level == 0:
                foreign.add(name.partition(".")[0])
    return CodeClosure(tuple(sorted(found)), frozenset(foreign))


def code_text(path: Path) -> str:
    """A file's code without comments, blank lines and trailing space; the same text under every Python version."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.replace("\r\n", "\n").split("\n")
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return text
    return "\n".join(line.rstrip() for line in lines if line.strip())


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
        bases = [importer.parent, *sorted(folders), root]
    for base in bases:
        found: list[Path] = []
        place = base
        for part in [part for part in name.split(".") if part]:
            package, module = place / part / "__init__.py", place / f"{part}.py"
            if module.is_file():
                found.append(module)
                break
            if not (place / part).is_dir():
                break
            if package.is_file():
                found.append(package)
            place = place / part
        if found and all(path.resolve().is_relative_to(root) for path in found):
            return [path.resolve() for path in found]
    return []
