"""A plugin as a scenario names it, with its options."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness import plugins
from harness.core.errors import BadInput, Problem
from harness.core.plugin import Options
from harness.core.scenario import PluginRef
from harness.engine.explain import explain
from harness.engine.read_yaml import Document


def plugin_of(family: plugins.Family, ref: PluginRef, folder: Path) -> Options:
    """The validated instance of a plugin as a scenario names it. Imports the plugin's file: for trusted scenarios only."""
    kind = plugins.load(family, ref.name, folder)
    try:
        return kind.model_validate(spelled_out(kind, ref))
    except ValidationError as error:
        raise BadInput(*explain(error, Document(None, ""), kind, prefix=ref.name)) from error


def spelled_out(kind: type[Options], ref: PluginRef) -> dict[str, object]:
    """A reference's options with the plain string after the name under the field that it sets."""
    options: dict[str, object] = {key: value for key, value in ref.options.items() if key}
    if "" in ref.options:
        if kind.short is None:
            raise BadInput(Problem(f"'{ref.name}' takes options as 'key: value' pairs, not a plain value"))
        options[kind.short] = ref.options[""]
    return options
