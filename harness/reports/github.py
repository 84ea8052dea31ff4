"""See Github."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.comparison import Comparison, SlaFinding, SlaState, Verdict
from harness.core.plugin import Options
from harness.core.result import TrialState
from harness.core.wording import sentence_of, sentence_of_sla, worst_first, worst_sla_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruamel.yaml.nodes import Node

    from harness.core.result import RunResult, ScenarioText, TrialRecord

MOST = 10
"""GitHub shows no more annotations of one kind from one step: what comes later is dropped without a word."""
_TITLE = 200
_MESSAGE = 2_000
"""Characters; GitHub cuts a title at 255 and a message at 64 KB."""

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class _Annotation:
    level: Level
    title: str
    message: str
    path: str | None = None
    line: int = 1


class Github(Options):
    """Annotations for GitHub: workflow commands that mark the scenario's lines in a pull request."""

    file_name: ClassVar[str] = "annotations.txt"

    def render(self, result: RunResult) -> bytes:
        """UTF-8, a command a line, empty where all is well.

        Errors are regressions, broken SLA clauses, and trials that failed or could not be decided; warnings are what was not shown either
        way. The worst stand first; of more than 10 of a kind the last tells how many are left out.
        """
        found = _annotations(result)
        lines = [_command(one) for level in ("error", "warning") for one in _at_most(MOST, [one for one in found if one.level == level])]
        return "".join(f"{line}\n" for line in lines).encode()


def _annotations(result: RunResult) -> list[_Annotation]:
    places = _Places(result)
    compared = [one for one in worst_first(result.comparisons) if not one.advisory]
    promised = worst_sla_first(result.sla)
    return [
        *(_of_comparison("error", one, places) for one in compared if one.verdict is Verdict.REGRESSED),
        *(_of_sla("error", one, places) for one in promised if one.state is SlaState.BROKEN),
        *(_of_trial(one, places) for one in result.trials if one.state is TrialState.FAILED or one.verdict is Verdict.INVALID),
        *(_of_comparison("warning", one, places) for one in compared if one.verdict is Verdict.INCONCLUSIVE),
        *(_of_sla("warning", one, places) for one in promised if one.state is SlaState.UNPROVEN),
    ]


def _of_comparison(level: Level, comparison: Comparison, places: _Places) -> _Annotation:
    path, line = places.of(comparison.trial, f"gate.{comparison.metric}")
    title = f"{comparison.verdict}: {comparison.metric} of {comparison.trial}"
    return _Annotation(level, title, f"{sentence_of(comparison)}\n{comparison.reason}", path, line)


def _of_sla(level: Level, finding: SlaFinding, places: _Places) -> _Annotation:
    path, line = places.of(finding.trial)
    return _Annotation(level, f"{finding.state}: {finding.clause}", sentence_of_sla(finding), path, finding.line or line)


def _of_trial(trial: TrialRecord, places: _Places) -> _Annotation:
    path, line = places.of(trial.id)
    told = "FAILED" if trial.state is TrialState.FAILED else "could not be decided"
    return _Annotation("error", f"{trial.id} {told}", trial.reason, path, line)


def _at_most(number: int, found: Sequence[_Annotation]) -> Sequence[_Annotation]:
    if len(found) <= number:
        return found
    more, level = len(found) - number + 1, found[0].level
    told = f"{more:,} more {level}s of this kind are in the report"
    return [*found[: number - 1], _Annotation(level, f"{more:,} more", told)]


class _Places:
    """Where in which file what is told of a trial was written."""

    def __init__(self, result: RunResult) -> None:
        self._texts = {text.name: text for text in result.scenarios}
        self._trials = {trial.id: trial for trial in result.trials}
        self._lines: dict[str, dict[str, int]] = {}

    def of(self, identity: str, key: str | None = None) -> tuple[str | None, int]:
        """Path and line of ``key`` in the trial's scenario, else of its recipe, else the file's first line."""
        trial = self._trials.get(identity)
        text = self._texts.get(identity.partition("/")[0] if trial is None else trial.scenario)
        if text is None:
            return None, 1
        lines = self._lines.setdefault(text.name, _lines_of(text))
        keys = (key, None if trial is None else f"recipes.{trial.recipe}")
        return text.path, next((lines[one] for one in keys if one in lines), 1)


def _lines_of(text: ScenarioText) -> dict[str, int]:
    """The line of every key of two levels, such as ``gate.latency_p50``; none where the text is no mapping."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        root = yaml.compose(text.text)
    except (YAMLError, ValueError, RecursionError):
        return {}  # what ran was read before; a text that is no YAML has no lines to show
    return {f"{outer}.{inner}": line for outer, _, node in _pairs(root) for inner, line, _ in _pairs(node)}


def _pairs(node: Node | None) -> list[tuple[str, int, Node]]:
    from ruamel.yaml.nodes import MappingNode

    if not isinstance(node, MappingNode):
        return []
    return [(str(name.value), name.start_mark.line + 1, value) for name, value in node.value]


def _command(annotation: _Annotation) -> str:
    """``::error file=scenarios/a.yaml,line=3,title=...::...``, escaped as GitHub's runner reads it."""
    properties = {} if annotation.path is None else {"file": annotation.path, "line": str(annotation.line)}
    properties["title"] = _clipped(annotation.title, _TITLE)
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{annotation.level} {told}::{_data(_clipped(annotation.message, _MESSAGE))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _clipped(text: str, most: int) -> str:
    """Without control characters but line breaks, of bounded length."""
    shown = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


PLUGIN = Github
