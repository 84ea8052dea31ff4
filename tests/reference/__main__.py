"""``python -m tests.reference``: write docs/reference/ anew from the code."""

from pathlib import Path

from .pages import FOLDER, pages

FOLDER.mkdir(exist_ok=True)
for name, text in pages().items():
    path = FOLDER / name
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")  # noqa: T201
