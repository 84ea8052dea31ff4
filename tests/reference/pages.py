"""The pages under docs/reference/: every plugin by its docstring, options and facts, and every command by its help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import click

from harness import plugins
from harness.cli import FAMILIES, cli
from harness.commands.audit import verify
from harness.core.plugin import SAME, NetworkLoad, Options, Profiles
from harness.core.units import Unit, format_value

from .wording import code, codes, default_of, paragraphs, table, type_of

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MADE = "<!-- Made from the code by 'make reference': change it there. -->"
ABOUT = {
    "sources": ("Sources", "Where a model comes from: the key under `model:` ([scenario.md](../scenario.md))."),
    "passes": ("Passes", "What a recipe does to the model, in order ([recipes](../recipes/README.md))."),
    "runtimes": ("Runtimes", "What opens the artifact and runs it: a recipe's `runtime:`."),
    "loads": ("Loads", "When queries are issued: `measure.load` ([load.md](../load.md))."),
    "metrics": ("Metrics", "What is told of a trial, and what `sla:` and `gate:` may name ([verdict.md](../verdict.md))."),
    "serving": ("Servers", "What serves the model under a load over the network: a recipe's `server:` ([serving.md](../serving.md))."),
    "fleets": ("Fleets", "Other machines that trials are measured on ([fleet.md](../fleet.md))."),
    "reports": ("Reports", "What a run is told in."),
}
BETTER = {"lower": "lower", "higher": "higher", "none": "neither"}
APART = {"harness audit": {"verify": verify}}
"""Commands below one that is no click group."""
EVIDENCE = {"launch": "each launch", "sample": "each evaluation sample", "exact": "the artifact, exact"}


def pages() -> dict[str, str]:
    """Every page by file name."""
    families: tuple[plugins.Family, ...] = get_args(plugins.Family)
    made = {f"{family}.md": _family(family) for family in families if plugins.names(family)}
    return {**made, "commands.md": _commands()}


def _page(title: str, about: str, parts: Iterator[str]) -> str:
    return "\n\n".join([f"# {title}", MADE, about, *parts]) + "\n"


def _family(family: plugins.Family) -> str:
    kinds = {name: plugins.load(family, name) for name in plugins.names(family)}

    def parts() -> Iterator[str]:
        if family == "metrics":
            yield table(
                ("name", "unit", "better", "tolerance", "floor", "taken of"), [_metric_row(name, kind) for name, kind in kinds.items()]
            )
            yield (
                "*tolerance*: how much worse is tolerated where the scenario's `gate:` says nothing; empty: not gated. *floor*: the "
                "smallest absolute change that may be called a regression."
            )
        else:
            yield table(("name", ""), [(f"[{name}](#{name})", paragraphs(kind.__doc__)[0]) for name, kind in kinds.items()])
        for name, kind in kinds.items():
            yield f"## {name}"
            yield from paragraphs(kind.__doc__)
            if facts := [f"- {fact}" for fact in FACTS.get(family, _nothing)(kind)] + _packages(kind):
                yield "\n".join(facts)
            if kind.model_fields:
                yield _options(kind)

    title, about = ABOUT[family]
    return _page(title, f"{about} `harness list {family}` shows the names." if family in FAMILIES else about, parts())


def _options(kind: type[Options]) -> str:
    made = kind.model_json_schema()
    defs = made.get("$defs", {})
    rows = []
    for name, field in kind.model_fields.items():
        schema = made["properties"][field.alias or name]
        told = " ".join(paragraphs(str(schema.get("description", ""))))
        default = default_of(field.get_default(call_default_factory=True))
        rows.append((code(field.alias or name), type_of(schema, defs), default, told))
    return table(("option", "is written", "default", "meaning"), rows)


def _packages(kind: type[Options]) -> list[str]:
    if kind.extra is None:
        return []
    return [f"- needs: `pip install 'harness[{kind.extra}]'` (versions of {codes(kind.packages)} are part of the content digest)"]


def _source(kind: type[Options]) -> Iterator[str]:
    yield f"gives: `{kind.produces}`"  # type: ignore[attr-defined]
    if kind.short is not None:
        yield f"a plain value sets: `{kind.short}`"


def _pass(kind: type[Options]) -> Iterator[str]:
    given = "what it takes" if kind.produces == SAME else code(kind.produces)  # type: ignore[attr-defined]
    yield f"takes: {codes(kind.accepts)}; gives: {given}"  # type: ignore[attr-defined]
    if kind.needs:  # type: ignore[attr-defined]
        yield f"reads: {codes([f'data.{role}' for role in kind.needs])}"  # type: ignore[attr-defined]


def _runtime(kind: type[Options]) -> Iterator[str]:
    yield f"opens: {codes(kind.accepts)}; on: {codes(kind.devices)}"  # type: ignore[attr-defined]
    yield f"`harness profile`: {'yes' if issubclass(kind, Profiles) else 'no'}"


def _load(kind: type[Options]) -> Iterator[str]:
    yield f"queries come: {'over the network' if issubclass(kind, NetworkLoad) else 'in the process of the model'}"


def _server(kind: type[Options]) -> Iterator[str]:
    yield f"serves: {codes(kind.accepts) or 'whatever the runtime of the recipe opens'}"  # type: ignore[attr-defined]


def _report(kind: type[Options]) -> Iterator[str]:
    yield f"file: `{kind.file_name}`"  # type: ignore[attr-defined]


def _metric(kind: type[Options]) -> Iterator[str]:
    metric = kind()
    if getattr(metric, "queries", 1) > 1:
        yield f"a launch must hold {metric.queries} queries"  # type: ignore[attr-defined]
    if getattr(metric, "needs_reference", False):
        yield "is told against the predictions of the scenario's `reference`"


def _nothing(_: type[Options]) -> Iterator[str]:
    yield from ()


FACTS: dict[str, Callable[[type[Options]], Iterator[str]]] = {
    "sources": _source,
    "passes": _pass,
    "runtimes": _runtime,
    "loads": _load,
    "metrics": _metric,
    "serving": _server,
    "reports": _report,
}


def _metric_row(name: str, kind: type[Options]) -> tuple[str, ...]:
    unit, tolerance, floor, of = kind.unit, kind.tolerance, kind.floor, kind.kind  # type: ignore[attr-defined]
    scale = "points" if of == "sample" and unit is Unit.FRACTION else "%"
    allowed = "" if tolerance is None else f"{tolerance:g}" if of == "sample" and unit is Unit.NUMBER else f"{100 * tolerance:g} {scale}"
    smallest = format_value(floor, unit) if floor else ""
    return f"[{name}](#{name})", str(unit), BETTER[kind.better], allowed, smallest, EVIDENCE[of]  # type: ignore[attr-defined]


def _commands() -> str:
    found = dict(_all(cli, "harness", None))

    def parts() -> Iterator[str]:
        rows = [(f"[{path}](#{path.replace(' ', '-')})", one.command.get_short_help_str(200)) for path, one in found.items()]
        yield table(("command", ""), rows)
        for path, context in found.items():
            yield f"## {path}"
            yield f"    {path} {' '.join(context.command.collect_usage_pieces(context))}"
            yield from paragraphs(context.command.help)
            records = [record for one in context.command.get_params(context) if (record := one.get_help_record(context))]
            yield table(("option", "meaning"), [(code(names), " ".join(told.split())) for names, told in records])

    about = "Every command by its help. Results go to stdout, progress and logs to stderr; exit codes are in the first entry."
    return _page("Commands", about, parts())


def _all(command: click.Command, path: str, parent: click.Context | None) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, parent, info_name=path.rpartition(" ")[2], **command.context_settings)
    yield path, context
    below = dict(APART.get(path, {}))
    if isinstance(command, click.Group):
        below |= {name: inner for name in command.list_commands(context) if (inner := command.get_command(context, name)) is not None}
    for name, inner in below.items():
        if not inner.hidden:
            yield from _all(inner, f"{path} {name}", context)
