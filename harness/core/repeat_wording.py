"""The sentences about asking twice: whether the answers that changed are the change's doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.measurement import Repeat
    from harness.core.result import TrialRecord

EXACT = "asked twice, every output is the same to the bit"


def asked_twice(repeat: Repeat | None) -> str:
    """What came of asking one arm twice."""
    if repeat is None:
        return "not checked: it was not asked twice"
    if not repeat.differing:
        return f"{EXACT} ({_samples(repeat)})"
    if repeat.other_answers:
        return f"not deterministic: asked twice, {repeat.other_answers:,} of {_samples(repeat)} give another answer"
    most = f"by at most {repeat.greatest:.2g}"
    told = f"not deterministic: asked twice, {repeat.differing:,} of {_samples(repeat)} give other outputs ({most})"
    return told if repeat.other_answers is None else f"{told}, none another answer"


def doubts_of(trial: TrialRecord) -> tuple[str, ...]:
    """A note for each arm that is not deterministic, with what that means for the answers that changed."""
    arms = (("", trial.repeat), ("the baseline is ", trial.base_repeat))
    return tuple(f"{arm}{asked_twice(repeat)}{_meaning(trial, repeat)}" for arm, repeat in arms if repeat is not None and repeat.differing)


def flips_told(trial: TrialRecord) -> str:
    """How far the answers that changed are the change's doing."""
    if doubts := doubts_of(trial):
        return "; ".join(doubts)
    if trial.repeat is None:
        return "it was not checked whether the same question gets the same answer twice"
    if trial.base_repeat is None:
        return f"{EXACT} in the candidate ({_samples(trial.repeat)}); the baseline was not asked twice"
    return f"{EXACT}: flips are exact ({_samples(trial.repeat)} of the candidate, {trial.base_repeat.samples:,} of the baseline)"


def _meaning(trial: TrialRecord, repeat: Repeat) -> str:
    if not trial.flips:
        return ""
    return f": flips below {'are not all' if repeat.other_answers else 'may not all be'} the change's doing"


def _samples(repeat: Repeat) -> str:
    return f"{repeat.samples:,} {'sample' if repeat.samples == 1 else 'samples'}"
