"""What the gate does with a trial, from its content, its baseline and the machine: decided before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.baseline import Baseline
    from harness.core.result import Content


class Route(StrEnum):
    """UNCHANGED: not measured. ALONE: measured without an opponent. PAIRED: candidate and baseline measured in pairs, here and now.
    PORTABLE: only what is the same on every machine (size, accuracy) is compared."""

    UNCHANGED = "UNCHANGED"
    ALONE = "ALONE"
    PAIRED = "PAIRED"
    PORTABLE = "PORTABLE"


def choose_route(
    baseline: Baseline | None,
    content: Content,
    environment_key: str,
    *,
    measure_all: bool = False,
    accept_new: bool = False,
    base_python: bool = False,
    ref: str | None = None,
) -> tuple[Route, str]:
    """The way of one trial, and the reason in one line. ``ref`` is the commit that stands in the baseline's place.

    The same source is not measured again; where only versions differ, and this kind of machine has no numbers with these, their effect
    on timings cannot be told apart from the machine's, and is not guessed: it takes an interpreter with the other versions
    (``base_python``), in which the baseline runs.
    """
    if baseline is None:
        return Route.ALONE, "no baseline yet" if ref is None else f"{ref} does not have it"
    its = "its baseline's" if ref is None else f"what {ref} has"
    if baseline.portable.content.source != content.source:
        return Route.PAIRED, f"its content is not {its}"
    if measure_all:
        return Route.PAIRED, "unchanged, and measured because all were asked for"
    same_versions = baseline.portable.content.digest == content.digest
    changed = ", ".join(version_changes(baseline.portable.content.toolchain, content.toolchain))
    if base_python and not same_versions:
        return Route.PAIRED, f"its source is its baseline's, versions differ ({changed})"
    if environment_key in baseline.measured:
        return Route.UNCHANGED, f"its content is {its}, and this kind of machine has numbers of it"
    if accept_new:
        return Route.ALONE, "its content is its baseline's; this kind of machine has no numbers of it yet"
    if same_versions:
        return Route.UNCHANGED, f"its content is {its}" + ("; this kind of machine has no numbers of it" if ref is None else "")
    return (
        Route.PORTABLE,
        f"its source is its baseline's, versions differ ({changed}): --base-python can tell what that does to timings",
    )


def version_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """``torch 2.12.0 -> 2.13.0`` for every package whose version differs, the user's packages first."""
    names = sorted({*before, *now}, key=lambda name: (name.startswith("harness."), name))
    return [f"{name} {before.get(name, 'none')} -> {now.get(name, 'none')}" for name in names if before.get(name) != now.get(name)]
