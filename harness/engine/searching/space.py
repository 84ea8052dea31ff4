"""A declared search space to candidates: every combination of its choices is a recipe with a readable name that stays the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from harness.core.errors import BadInput, Problem
from harness.core.scenario import CHOICE, PluginRef, Recipe
from harness.core.search import Candidate
from harness.engine.check_promises import unknown

if TYPE_CHECKING:
    from pydantic import JsonValue

    from harness.core.scenario import Scenario, SearchSpec, SpaceSpec

LIMIT = 200
"""Candidates of a search that nobody has said a number for."""
MOST_CHARACTERS = 64
"""Of a recipe's name."""
MOST_IN_A_LABEL = 20
EXAMPLE = "{one_of: [first, second]}"


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to fill a place of a recipe: the plugin there (None: none at all), and the labels of what was chosen in it."""

    ref: PluginRef | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """All ways to fill one place: how many, and what makes them. They are counted first: a few lines can stand for billions."""

    count: int
    options: Callable[[], Iterable[_Option]]


def expand(spec: SearchSpec, limit: int = LIMIT, *, option: str = "--limit") -> tuple[Candidate, ...]:
    """Every candidate of a search space, in the order written.

    Raises BadInput, without a place in the file, for a choice that is none, and for more candidates than ``limit`` before one is made.
    """
    problems: list[Problem] = []
    entries = [_places(entry, entry_key(index), problems) for index, entry in enumerate(spec.space)]
    if problems:
        raise BadInput(*problems)
    counts = [math.prod(place.count for place in places) for places in entries]
    if sum(counts) > limit:
        told = " + ".join(f"{count:,}" for count in counts)
        total = f"{told} = {sum(counts):,}" if len(counts) > 1 else told
        hint = f"take choices out, or allow more: {option} {sum(counts)}"
        raise BadInput(Problem(f"{total} candidates, {limit:,} are allowed", key="search.space", hint=hint))
    found: list[Candidate] = []
    for index, (base, places) in enumerate(zip(_bases(spec.space), entries, strict=True)):
        for chosen in itertools.product(*(place.options() for place in places)):
            labels = tuple(label for option in chosen for label in option.labels)
            *passes, runtime, server = (option.ref for option in chosen)
            assert runtime is not None and server is not None
            steps = tuple(ref for ref in passes if ref is not None)
            recipe = Recipe(name=_name(base, labels), passes=steps, runtime=runtime, server=server)
            found.append(Candidate(recipe, entry_key(index), labels))
    return _told_apart(found)


def check_space(scenario: Scenario) -> list[Problem]:
    """What is wrong with a search space as it is written, without making a candidate of it; keys are set, places are the caller's."""
    spec = scenario.search
    if spec is None:
        return []
    problems = []
    if spec.against is not None and spec.against not in scenario.recipes:
        problems.append(unknown("recipe", spec.against, scenario.recipes, "search.against"))
    for index, entry in enumerate(spec.space):
        _places(entry, entry_key(index), problems)
    return problems


def entry_key(index: int) -> str:
    """Where an entry of the space stands."""
    return f"search.space[{index}]"


def _places(entry: SpaceSpec, key: str, problems: list[Problem]) -> list[_Place]:
    """The ways to fill each pass, the runtime and the server."""
    passes = [_options(ref, f"{key}.passes[{number}]", problems, optional=True) for number, ref in enumerate(entry.passes)]
    return [*passes, _options(entry.runtime, f"{key}.runtime", problems), _options(entry.server, f"{key}.server", problems)]


def _options(ref: PluginRef, key: str, problems: list[Problem], *, optional: bool = False) -> _Place:
    if ref.name != CHOICE:
        return _of_plugin(ref, key, problems)
    found: list[_Place] = []
    alternatives = _alternatives(ref.options.get(""), f"{key}.{CHOICE}", problems)
    names = [item if isinstance(item, str) else next(iter(item), "") for item in alternatives if isinstance(item, str | Mapping)]
    for number, item in enumerate(alternatives):
        where = f"{key}.{CHOICE}[{number}]"
        if item is None and optional:
            absent = _Option(None, (f"no_{_stem(names[0])}" if len(set(names)) == 1 else "none",))
            found.append(_Place(1, partial(_just, absent)))
            continue
        try:
            inner = PluginRef.model_validate(item)
        except ValidationError as error:
            problems.append(Problem(str(error.errors()[0].get("ctx", {}).get("error", error.errors()[0]["msg"])), key=where))
            continue
        if inner.name == CHOICE:
            problems.append(Problem("a choice stands in a choice", key=where, hint="write all in one list"))
            continue
        found.append(_named(_stem(inner.name), _of_plugin(inner, where, problems)))
    return _Place(sum(place.count for place in found), lambda: itertools.chain.from_iterable(place.options() for place in found))


def _just(option: _Option) -> tuple[_Option, ...]:
    return (option,)


def _named(name: str, place: _Place) -> _Place:
    """The same ways, with the plugin's name among what was chosen."""
    return _Place(place.count, lambda: (_Option(option.ref, (name, *option.labels)) for option in place.options()))


def _of_plugin(ref: PluginRef, key: str, problems: list[Problem]) -> _Place:
    """A plugin with every combination of its options."""
    where = f"{key}.{ref.name}"
    if set(ref.options) == {CHOICE}:  # a choice among whole sets of options
        sets = _alternatives(ref.options[CHOICE], f"{where}.{CHOICE}", problems)
        return _Place(len(sets), lambda: (_Option(_with(ref, item), _labels(item, number)) for number, item in enumerate(sets, 1)))
    values: list[list[tuple[JsonValue, tuple[str, ...]]]] = []
    for name, value in ref.options.items():
        if not isinstance(value, Mapping) or CHOICE not in value:
            values.append([(value, ())])
            continue
        inner = f"{where}.{name}"
        if len(value) > 1:
            problems.append(Problem(f"'{CHOICE}' stands alone", key=inner, hint=f"write {EXAMPLE}"))
            continue
        items = _alternatives(value[CHOICE], f"{inner}.{CHOICE}", problems)
        values.append([(item, (_label(name, item, number),)) for number, item in enumerate(items, 1)])
    if len(values) < len(ref.options):
        return _Place(0, tuple)  # a problem is noted
    return _Place(math.prod(map(len, values)), lambda: (_combined(ref, chosen) for chosen in itertools.product(*values)))


def _combined(ref: PluginRef, chosen: Sequence[tuple[JsonValue, tuple[str, ...]]]) -> _Option:
    options = dict(zip(ref.options, (value for value, _ in chosen), strict=True))
    return _Option(PluginRef(name=ref.name, options=options), tuple(label for _, labels in chosen for label in labels))


def _alternatives(value: JsonValue | None, key: str, problems: list[Problem]) -> list[JsonValue]:
    """The values of a choice, or a problem noted."""
    if not isinstance(value, list) or not value:
        problems.append(Problem("a list of at least one value is needed", key=key, hint=f"write {EXAMPLE}"))
        return []
    seen: list[str] = []
    for number, item in enumerate(value):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            problems.append(Problem("stands twice in this choice", key=f"{key}[{number}]"))
        seen.append(text)
    return value


def _with(ref: PluginRef, item: JsonValue) -> PluginRef:
    """One alternative of a plugin's options: some of them, none (null), or the plain value that stands for one."""
    options = dict(item) if isinstance(item, Mapping) else {} if item is None else {"": item}
    return PluginRef(name=ref.name, options=cast("dict[str, JsonValue]", options))


def _labels(item: JsonValue, number: int) -> tuple[str, ...]:
    if isinstance(item, Mapping):
        return tuple(_label(name, value, number) for name, value in item.items()) or ("defaults",)
    return ("defaults",) if item is None else (_label("option", item, number),)


def _label(option: str, value: JsonValue, number: int) -> str:
    """A chosen value in a name: ``per_channel`` or ``no_per_channel``, ``entropy``, ``calibration_samples128``."""
    if value is True:
        return option
    if value is False or value is None:
        return f"no_{option}"
    text = _slug(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
    if isinstance(value, int | float) and value < 0:
        text = f"_minus{text}"
    if not text or len(text) > MOST_IN_A_LABEL:
        return f"{option}_{number}"
    return text if isinstance(value, str) else f"{option}{'' if isinstance(value, int | float) else '_'}{text}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def _stem(plugin: str) -> str:
    """A plugin's name in a candidate's: of the user's own the file's, without its folder."""
    return _slug(PurePath(plugin).stem)


def _bases(space: Sequence[SpaceSpec]) -> list[str]:
    """The beginning of each entry's names: told apart by the runtime, or by number, where two would be the same."""
    plain = [_base(entry) for entry in space]
    taken = Counter(plain)
    longer = [
        f"{base}-{_stem(entry.runtime.name)}" if taken[base] > 1 and entry.name is None and entry.runtime.name != CHOICE else base
        for base, entry in zip(plain, space, strict=True)
    ]
    again, seen = Counter(longer), Counter[str]()
    found = []
    for base in longer:
        seen[base] += 1
        found.append(f"{base}-{seen[base]}" if base and again[base] > 1 else base)
    return found


def _base(entry: SpaceSpec) -> str:
    fixed = [ref.name for ref in entry.passes if ref.name != CHOICE]
    last = fixed[-1] if fixed else "" if entry.runtime.name == CHOICE else entry.runtime.name
    return entry.name or _stem(last)  # a choice of runtimes names itself


def _name(base: str, labels: Sequence[str]) -> str:
    return "-".join(filter(None, (base, *labels)))


def _told_apart(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The same with names that fit a file and are different: where they are not, a digest of the recipe stands at the end."""
    names = Counter(candidate.name for candidate in candidates)
    found = []
    for candidate in candidates:
        name = candidate.name
        if names[name] > 1 or len(name) > MOST_CHARACTERS:
            digest = hashlib.sha256(candidate.recipe.model_dump_json(exclude={"name"}).encode()).hexdigest()[:6]
            name = f"{name[: MOST_CHARACTERS - 7].rstrip('-_')}-{digest}"
        found.append(Candidate(candidate.recipe.model_copy(update={"name": name}), candidate.key, candidate.choices))
    return tuple(found)
