"""See Json."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.core.plugin import Options
from harness.core.summary import summary_json

if TYPE_CHECKING:
    from harness.core.result import RunResult


class Json(Options):
    """The verdict and its numbers for machines: strict JSON, what '--json' prints."""

    file_name: ClassVar[str] = "summary.json"

    def render(self, result: RunResult) -> bytes:
        """UTF-8; described by ``result.schema.json`` beside this file and in docs/json-output.md."""
        return summary_json(result).encode()


PLUGIN = Json
