"""Where the time of a query goes, operator by operator: of one arm, and of two beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.units import Unit, format_value

MOST_CHANGES = 8
LEAST_SHARE = 0.02
"""What adds less than this share of the largest addition explains nothing."""


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All calls of one operator in a profile.

    ``name`` is the node's name, or the path of the module that called it; ``kind`` the operator's type; ``where`` what ran it (a device,
    an execution provider). ``own_ns`` is its own time, that of what it calls left out.
    """

    name: str
    kind: str
    where: str
    calls: int
    own_ns: int


@dataclass(frozen=True, slots=True)
class Profile:
    """So many queries under a runtime's own profiler, and the time that they took there, which is more than they take without it."""

    queries: int
    wall_ns: int
    operators: tuple[OperatorTime, ...]

    def with_more(self, other: Profile) -> Profile:
        """Both together, as if it had been one."""
        return Profile(self.queries + other.queries, self.wall_ns + other.wall_ns, tuple(merged((*self.operators, *other.operators))))


@dataclass(frozen=True, slots=True)
class OperatorChange:
    """One operator in both arms: calls and own ns of a query; 0 and 0.0 in an arm that does not have it."""

    name: str
    kind: str
    where: str
    baseline_calls: float
    candidate_calls: float
    baseline_ns: float
    candidate_ns: float

    @property
    def added_ns(self) -> float:
        """What a query takes more because of it; negative where it takes less."""
        return self.candidate_ns - self.baseline_ns


def merged(operators: Iterable[OperatorTime]) -> list[OperatorTime]:
    """Those of one name, kind and place together, the dearest first."""
    calls: Counter[tuple[str, str, str]] = Counter()
    own: Counter[tuple[str, str, str]] = Counter()
    for operator in operators:
        key = (operator.name, operator.kind, operator.where)
        calls[key] += operator.calls
        own[key] += operator.own_ns
    return [OperatorTime(*key, calls[key], own_ns) for key, own_ns in own.most_common()]


def by_kind(profile: Profile) -> Profile:
    """The same with all operators of a type in one place together: what nodes that were renamed, fused or split are compared by."""
    return Profile(
        profile.queries,
        profile.wall_ns,
        tuple(merged(OperatorTime("", one.kind, one.where, one.calls, one.own_ns) for one in profile.operators)),
    )


def changes(baseline: Profile, candidate: Profile) -> list[OperatorChange]:
    """Every operator of either arm, those first that add most to a query."""
    arms = [{(one.name, one.kind, one.where): one for one in profile.operators} for profile in (baseline, candidate)]
    found = [_change(key, arms, (baseline.queries, candidate.queries)) for key in {**arms[0], **arms[1]}]
    return sorted(found, key=lambda change: (-change.added_ns, change.kind, change.name))


def telling_changes(found: Sequence[OperatorChange], most: int = MOST_CHANGES) -> tuple[OperatorChange, ...]:
    """Those that explain: the largest in either direction, in the order given."""
    largest = sorted((change for change in found if change.added_ns), key=lambda change: -abs(change.added_ns))[:most]
    return tuple(change for change in found if change in largest and abs(change.added_ns) >= LEAST_SHARE * abs(largest[0].added_ns))


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """What explains a difference between two arms: operator types, and single operators by name; those first that add most to a query."""

    kinds: tuple[OperatorChange, ...]
    operators: tuple[OperatorChange, ...]


def operator_table(baseline: Profile, candidate: Profile) -> OperatorTable:
    """Both profiles beside each other."""
    return OperatorTable(
        telling_changes(changes(by_kind(baseline), by_kind(candidate))),
        telling_changes(changes(baseline, candidate)),
    )


def told_of(change: OperatorChange) -> str:
    """``MatMul takes 412 µs of a query more: 1.24 ms to 1.65 ms, 210 calls where there were 200``."""
    name = f"{change.kind} '{change.name}'" if change.name else change.kind
    took, takes = (format_value(value, Unit.NANOSECONDS) for value in (change.baseline_ns, change.candidate_ns))
    more = "more" if change.added_ns >= 0 else "less"
    told = f"{name} takes {format_value(abs(change.added_ns), Unit.NANOSECONDS)} of a query {more}: {took} to {takes}"
    if change.baseline_calls == change.candidate_calls:
        return told
    calls = "1 call" if change.candidate_calls == 1 else f"{change.candidate_calls:.4g} calls"
    return f"{told}, {calls} where there {'was' if change.baseline_calls == 1 else 'were'} {change.baseline_calls:.4g}"


def _change(
    key: tuple[str, str, str], arms: Sequence[Mapping[tuple[str, str, str], OperatorTime]], queries: tuple[int, int]
) -> OperatorChange:
    calls, own = [], []
    for arm, count in zip(arms, queries, strict=True):
        one = arm.get(key)
        calls.append(one.calls / count if one else 0.0)
        own.append(one.own_ns / count if one else 0.0)
    return OperatorChange(*key, *calls, *own)
