"""The tutorials, run as they are written: every file saved, every command run, every line that is shown looked for in what was printed."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
SHARED = ("gate.md", "A project")
"""The section that the other tutorials begin with."""
IDENTITY = {f"GIT_{who}_{what}": told for who in ("AUTHOR", "COMMITTER") for what, told in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))}


@dataclass(frozen=True)
class Saved:
    """A file that the reader is told to save."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line after ``$``, the exit code that ``# exit N`` tells, and the lines that are shown below it."""

    line: str
    code: int
    shown: tuple[str, ...]


def steps_of(page, section=None):
    """What the page tells to do, in order; only of one section where it is named."""
    here, said = None, ""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page):
        if token.type == "inline":
            said = token.content
        elif token.type == "heading_close":
            here = said
        elif token.type == "fence" and section in (None, here):
            if token.info == "console":
                yield from commands_in(token.content)
            elif saved := re.search(r"as\s+`([^`]+)`:$", said):
                yield Saved(saved[1], token.content)


def commands_in(block):
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, *shown = part.rstrip("\n").split("\n")
        words, _, code = line.partition(" # exit ")
        yield Command(words.rstrip(), int(code or 0), tuple(shown))


def missing(shown, printed):
    """The shown lines that were not printed in this order; a line of dots stands for any lines, dots in a line for any text."""
    lines, lacking = iter(printed.splitlines()), []
    for line in shown:
        if line == "...":
            continue
        form = re.compile(r"\s+".join(re.escape(part) for part in line.split()).replace(re.escape("..."), ".*"))
        if not any(form.fullmatch(" ".join(candidate.split())) for candidate in lines):
            lacking.append(line)
    return lacking


def carry_out(step, folder, environment):
    if isinstance(step, Saved):
        path = folder / step.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text, encoding="utf-8")
        return
    done = subprocess.run(step.line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    told = f"$ {step.line}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == step.code, told
    assert missing(step.shown, done.stdout) == [], told


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(path.name for path in FOLDER.glob("*.md")))
def test_a_tutorial_works_as_it_is_written(page, tmp_path):
    environment = {**os.environ, **IDENTITY, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    steps = list(steps_of((FOLDER / page).read_text(encoding="utf-8")))
    if page != SHARED[0]:
        shared = (FOLDER / SHARED[0]).read_text(encoding="utf-8")
        steps = [*steps_of(shared, SHARED[1]), *steps]
    assert [step for step in steps if isinstance(step, Saved)] and [step for step in steps if isinstance(step, Command)]
    for step in steps:
        carry_out(step, tmp_path, environment)


def test_files_commands_exit_codes_and_shown_lines_are_read_from_a_page():
    first = "## One\n\nSave it as `a/b.yaml`:\n\n```yaml\nx: 1\n```\n\n```console\n$ a b   # exit 3\nout\n$ c\n```\n"
    page = first + "\n## Two\n\n```console\n$ d\n```\n"
    told = [Saved("a/b.yaml", "x: 1\n"), Command("a b", 3, ("out",)), Command("c", 0, ())]
    assert list(steps_of(page, "One")) == told and list(steps_of(page)) == [*told, Command("d", 0, ())]


@pytest.mark.parametrize(
    ("shown", "lacking"),
    [
        (("one", "...", "four  5 ms"), []),
        (("t... 3 s", "four ..."), []),
        (("four 5 ms", "one"), ["one"]),
        (("one",), []),
        (("on",), ["on"]),
        (("three 3 s!",), ["three 3 s!"]),
    ],
)
def test_a_shown_line_must_have_been_printed_whole_and_in_its_place(shown, lacking):
    assert missing(shown, "one\ntwo\nthree 3 s\nfour    5 ms\n") == lacking


@pytest.mark.parametrize(("line", "code"), [("echo out", 0), ("echo out; exit 1", 1)])
def test_another_exit_code_or_another_output_fails_the_page(tmp_path, line, code):
    carry_out(Command(line, code, ("out",)), tmp_path, dict(os.environ))
    for wrong in (Command(line, code + 1, ("out",)), Command(line, code, ("in",))):
        with pytest.raises(AssertionError):
            carry_out(wrong, tmp_path, dict(os.environ))
