"""A bisection in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.bisection import Answer, Bisection, Commit, Effect, Found, Outcome, Step
from harness.core.errors import ExitCode
from harness.core.units import format_change, format_value
from harness.engine.bisecting.line import inside_of_merge
from harness.store.files import pretty_json, strict_json_value, write_atomically

if TYPE_CHECKING:
    from harness.engine.bisecting.ask_timed import Compared
    from harness.engine.bisecting.search import Narrowed
    from harness.engine.rules import Rule

JSON_SCHEMA = 1
PART = 0.6
"""A commit with less than this share of the whole change (on the log scale) is told not to be all of it."""
MOST_LISTED = 20
_BISECTION: TypeAdapter[Bisection] = TypeAdapter(Bisection)


def exit_code_of(found: Bisection) -> ExitCode:
    """0 for a commit that was found and confirmed, else 3."""
    return ExitCode.PASS if found.outcome is Outcome.FOUND else ExitCode.NOT_DECIDED


def json_of(found: Bisection) -> bytes:
    """Strict JSON: what is not a finite number is null."""
    return pretty_json(
        strict_json_value({"schema": JSON_SCHEMA, "exit_code": int(exit_code_of(found)), **_BISECTION.dump_python(found, mode="json")})
    )


def save(found: Bisection, path: Path) -> None:
    write_atomically(path, json_of(found))


def text_of(found: Bisection) -> str:
    """The answer first, then what it rests on."""
    commits = f"{found.commits} {'commit' if found.commits == 1 else 'commits'}, {found.contents} different contents"
    work = f"{len(found.steps)} {'step' if len(found.steps) == 1 else 'steps'}, {found.pairs} launch pairs, {found.seconds:.0f} s"
    parts = [
        [found.headline],
        [] if found.found is None else list(_found(found.found)),
        [] if found.outcome is not Outcome.SEVERAL_LEFT else _suspects(found.suspects),
        [
            f"good  {_named(found.good)}",
            f"bad   {_named(found.bad)}{'' if found.effect is None else f': {effect_of(found.effect)}'}",
            f"{commits}; {work}",
        ],
        [step_line(step) for step in found.steps],
        [f"note: {note}" for note in found.notes],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def effect_of(effect: Effect) -> str:
    """``×1.051 (99.8 % interval 1.038 to 1.064, 8 launch pairs)``; an exact one without its interval."""
    ratio = f"×{effect.ratio:.3f}" if math.isfinite(effect.ratio) else "from zero"
    if effect.n == 0:
        return f"{ratio} (exact)"
    level = f"{effect.interval.level * 100:.4g}" if effect.interval.level < 0.9999 else "more than 99.99"
    return f"{ratio} ({level} % interval {effect.interval.low:.3f} to {effect.interval.high:.3f}, {effect.n} launch pairs)"


def step_line(step: Step) -> str:
    """``GOOD       3f2a… Tidy the loader: shown to be better than the bad end; ×1.002 of good, ×0.954 of bad``."""
    ends = [
        f"×{effect.ratio:.3f} of the {name} end"
        for name, effect in (("good", step.against_good), ("bad", step.against_bad))
        if effect is not None and math.isfinite(effect.ratio)
    ]
    pairs = [] if step.against_good is None or not step.against_good.n else [f"{step.against_good.n} launch pairs against each"]
    return f"{step.answer:<9}  {_named(step.commit)}: {'; '.join([step.reason, *(', '.join([*ends, *pairs]),)] if ends else [step.reason])}"


def found_headline(rule: Rule, trial: str, found: Found, *, confirmed: bool) -> str:
    """The answer in one sentence."""
    if not confirmed or found.effect is None:
        return f"not confirmed: {found.commit.short} is left, and fresh launch pairs do not show {rule.metric} worse than at its parent"
    before, after = (format_value(value, rule.unit) for value in (found.effect.baseline, found.effect.candidate))
    return f"{found.commit.short} made {rule.metric} of {trial} worse: {before} to {after}, {effect_of(found.effect)} against its parent"


def several_headline(rule: Rule, left: Narrowed) -> str:
    """How many commits are left, and why."""
    why = "some of them were not decided" if _undecided(left) else "those between could not be built or measured"
    return f"one of {len(left.suspects)} commits made {rule.metric} worse: {why}"


def advice_on_undecided(left: Narrowed, folder: Path) -> Iterable[str]:
    """What would tell, where the budget did not."""
    if _undecided(left):
        yield f"launch pairs are kept: a larger budget goes on with them, harness bisect --resume {folder} --budget 5min"


def _undecided(left: Narrowed) -> bool:
    return any(step.answer is Answer.UNDECIDED for step in left.steps)


def no_difference(rule: Rule, good: Commit, bad: Commit, ends: Compared) -> str:
    """Why there is nothing to look for."""
    if ends.better:
        assert ends.effect is not None
        return f"{rule.metric} is better at {bad.short} than at {good.short}, {effect_of(ends.effect)}: there is nothing to look for"
    return f"{rule.metric} is not shown to be worse at {bad.short} than at {good.short}: {ends.reason}"


def advice(root: Path, rule: Rule, found: Found, whole: Effect) -> Iterable[str]:
    """What else there may be to look for."""
    if len(found.commit.parents) > 1:
        good_end, bad_end = inside_of_merge(root, found.commit)
        yield f"it is a merge; which commit it brought in: harness bisect with --good {good_end} --bad {bad_end}"
    if found.effect is None or min(found.effect.ratio, whole.ratio) <= 0 or not math.isfinite(found.effect.ratio * whole.ratio):
        return
    part, all_ = math.log(found.effect.ratio), math.log(whole.ratio)
    if all_ and part / all_ < PART:
        yield (
            f"that is a part of the whole ({format_change(found.effect.ratio - 1)} of {format_change(whole.ratio - 1)}): another commit "
            f"made {rule.metric} worse too; search on either side, with --bad {found.parent.short}, or with --good {found.commit.short}"
        )


def _found(found: Found) -> Iterable[str]:
    commit = found.commit
    yield f"commit    {commit.hash}"
    yield f"subject   {commit.subject}"
    yield f"author    {commit.author}, {commit.date}"
    yield f"parent    {_named(found.parent)}"
    if found.effect is not None:
        yield f"effect    {effect_of(found.effect)}"
    others = f"{found.files.others} other {'file' if found.files.others == 1 else 'files'}, not part of what the trial is made of"
    for name in found.files.content[:MOST_LISTED]:
        yield f"file      {name}"
    if len(found.files.content) > MOST_LISTED:
        yield f"          and {len(found.files.content) - MOST_LISTED} more"
    if found.files.others:
        yield f"          {others}"
    yield from (f"differs   {line}" for line in found.differences)
    yield from (f"operator  {line}" for line in found.operators)


def _suspects(suspects: tuple[Commit, ...]) -> list[str]:
    listed = [f"suspect   {_named(commit)} ({commit.author}, {commit.date})" for commit in suspects[:MOST_LISTED]]
    return listed + ([f"          and {len(suspects) - MOST_LISTED} more"] if len(suspects) > MOST_LISTED else [])


def _named(commit: Commit) -> str:
    return f"{commit.short} {commit.subject}"
