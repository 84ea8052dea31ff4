"""What a step says to GitHub's runner: commands on stdout, and lines in the files that the environment names."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def tell(level: str, message: str, **properties: object) -> None:
    """An annotation (``error``, ``warning``, ``notice``), escaped as the runner reads it. A property that is None is left out."""
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value is not None)
    sys.stdout.write(f"::{level}{' ' if told else ''}{told}::{_data(message)}\n")
    sys.stdout.flush()


def set_output(name: str, value: object) -> None:
    """An output of this step. Raises ValueError for a line break, which would begin another output."""
    if any(character in str(value) for character in "\r\n"):
        raise ValueError(f"the output {name} cannot hold a line break: {value!r}")
    _append("GITHUB_OUTPUT", f"{name}={value}\n")


def add_to_summary(markdown: str) -> None:
    """A part of the job's summary page."""
    _append("GITHUB_STEP_SUMMARY", f"{markdown.rstrip()}\n\n")


def _append(variable: str, text: str) -> None:
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
