"""What the user wrote: one YAML file as validated models. Reading it from disk, with line numbers, is ``engine/read_scenario``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from harness.core.units import Notation, Quantity, Unit, parse_quantity


class Model(BaseModel):
    """The base of all that is read from YAML: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
"""A name that is also fit for a file name."""


def quantity_of(unit: Unit) -> BeforeValidator:
    """Read text such as ``20 s`` into a float in ``unit``; another unit is refused."""

    def read(value: object) -> object:
        quantity = parse_quantity(str(value))
        if quantity.unit is not unit:
            raise ValueError(f"{value!r} is given in {quantity.unit.value}, {unit.value} is needed")
        return quantity.value

    return BeforeValidator(read)


Duration = Annotated[float, quantity_of(Unit.NANOSECONDS), Field(gt=0)]
"""Written ``20 s``; held in ns."""
Bytes = Annotated[float, quantity_of(Unit.BYTES), Field(gt=0)]
"""Written ``4 GiB``; held in bytes."""


class PluginRef(Model):
    """A plugin by name, alone or with options: ``export_onnx`` or ``quantize_static: {per_channel: true}``.

    A name that ends in ``.py`` is a file of the user's own, relative to the scenario.
    """

    name: str
    options: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and set(value) != {"name", "options"} and set(value) != {"name"}:
            if len(value) != 1:
                raise ValueError("write one name, or one name with its options: '- quantize_static: {per_channel: true}'")
            ((name, options),) = value.items()
            if options is not None and not isinstance(options, Mapping | str):
                raise ValueError(f"the options of '{name}' are key: value pairs")
            return {"name": name, "options": {"": options} if isinstance(options, str) else dict(options or {})}
        return value

    @property
    def is_file(self) -> bool:
        return self.name.endswith(".py")


Step = PluginRef
"""A pass with its options."""


class ModelSpec(Model):
    """Where the model comes from: one source by name (``factory: file.py:build``, ``onnx: model.onnx``), its arguments, and further files
    whose content decides what comes out (weights that a factory reads).

    In ``source.options`` the key "" holds the plain string after the source's name.
    """

    source: PluginRef
    args: dict[str, JsonValue] = {}
    files: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_source_key(cls, value: object) -> object:
        if not isinstance(value, Mapping) or "source" in value:
            return value
        rest = {key: item for key, item in value.items() if key in ("args", "files")}
        sources = {key: item for key, item in value.items() if key not in rest}
        if len(sources) != 1:
            raise ValueError("name one source, such as 'factory: models/net.py:build' or 'onnx: model.onnx'")
        return {"source": sources, **rest}


Factory = Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")]
"""A Python file beside the scenario and a callable in it: ``models/net.py:test_set``."""


class DataSpec(Model):
    """The data sets by what they are for. A factory returns ``(inputs, targets)``, the sample axis first.

    ``random`` draws inputs from the scenario's seed where there is no data (``float32[3, 224, 224]``, ``int64[128] below 30522``);
    accuracy is then absent.
    """

    evaluation: Factory | None = None
    calibration: Factory | None = None
    training: Factory | None = None
    random: dict[str, str] = {}
    samples: int = Field(64, ge=1, description="how many samples 'random' draws")
    task: Literal["classification", "embedding", "regression", "other"] = "other"
    args: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _has_inputs(self) -> DataSpec:
        if (self.evaluation is None) == (not self.random):
            raise ValueError("name either 'evaluation' (a factory) or 'random' (inputs drawn from the seed)")
        return self


class Recipe(Model):
    """An ordered list of passes, then a runtime. The name is the key that it stands under."""

    name: str = ""
    passes: tuple[Step, ...] = ()
    runtime: PluginRef


class Requirements(Model):
    """What a machine must have to be a target. Names match where the text occurs in what the machine reports, case ignored."""

    cpu_model: str | None = None
    cores: int | None = Field(None, ge=1)
    memory: Bytes | None = None
    gpu: str | None = None


class HardwareTarget(Model):
    """A named machine: what it must have, what it costs an hour, which device and how many cores are used.

    ``cores`` pins every launch to the first N cores this process may use (all where absent); ``threads`` is what runtimes are told
    (as many as cores where absent).
    """

    name: str = ""
    device: Annotated[str, StringConstraints(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    requires: Requirements = Requirements()
    cores: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    price_per_hour: float | None = Field(None, ge=0)
    currency: str = "USD"


BUILT_IN_TARGETS = {"cpu": HardwareTarget(name="cpu"), "cuda": HardwareTarget(name="cuda", device="cuda")}


class MeasureSpec(Model):
    """How a trial is measured. Times are of each launch, of each arm."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    load: PluginRef = PluginRef(name="single_stream")
    launches: int = Field(5, ge=2, description="launches of a trial that is measured alone")
    duration: Duration = Field(cast(float, "1 s"), description="measured time of a launch", validate_default=True)
    warm_up: Duration = Field(cast(float, "1 s"), description="warm-up of a launch", validate_default=True)
    timeout: Duration = Field(cast(float, "120 s"), description="a stage of a launch that takes longer is ended", validate_default=True)
    build_timeout: Duration = Field(
        cast(float, "1800 s"), description="a source or a pass that takes longer is ended", validate_default=True
    )


class SlaClause(Model):
    """One promise. ``recipe`` is None where it holds for every recipe.

    ``relation``: ``absolute`` (50 ms), ``share`` (50 % of another recipe: limit 0.5), ``below`` and ``above`` (a distance to another
    recipe: 1 point below fp32). ``text`` is what was written.
    """

    recipe: str | None
    metric: str
    bound: Literal["at most", "at least"]
    limit: float
    unit: Unit
    notation: Notation
    relation: Literal["absolute", "share", "below", "above"]
    of: str | None
    text: str
    line: int | None = None


_CLAUSE = re.compile(
    r"\s*(?P<bound>at most|at least)\s+(?P<quantity>.+?)"
    r"(?:\s+(?P<relation>of|below|above)\s+(?P<of>[A-Za-z0-9][\w-]*))?\s*"
)
_TIMES = re.compile(
    r"\s*at least\s+(?P<times>\d+(?:\.\d+)?)\s+times\s+(?:as fast as|faster than|as small as|smaller than)\s+(?P<of>[A-Za-z0-9][\w-]*)\s*"
)


def parse_clause(key: str, text: str, line: int | None = None) -> SlaClause:
    """Read ``int8.model_size: at most 50 % of fp32``; also ``at least 3 times faster than fp32`` (a share of at most 1/3).

    Raises ValueError with the forms that are known.
    """
    recipe, _, metric = key.rpartition(".")
    common = {"recipe": recipe or None, "metric": metric, "text": f"{key}: {text}", "line": line}
    if match := _TIMES.fullmatch(text):
        share = 1 / float(match["times"])
        return SlaClause(
            **common, bound="at most", limit=share, unit=Unit.FRACTION, notation=Notation.PERCENT, relation="share", of=match["of"]
        )
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a clause: write 'at most 50 ms', 'at least 97 %', 'at most 50 % of fp32', "
            "'at most 1 point below fp32' or 'at least 3 times faster than fp32'"
        )
    quantity = parse_quantity(match["quantity"])
    relation = {None: "absolute", "of": "share", "below": "below", "above": "above"}[match["relation"]]
    if relation == "share" and quantity.notation is not Notation.PERCENT:
        raise ValueError(f"{text!r}: a share of another recipe is written in percent, such as 'at most 50 % of {match['of']}'")
    return SlaClause.model_validate(
        {
            **common,
            "bound": match["bound"],
            "limit": quantity.value,
            "unit": quantity.unit,
            "notation": quantity.notation,
            "relation": relation,
            "of": match["of"],
        }
    )


class GateRule(Model):
    """How much worse a metric may become. ``tolerance`` is relative (``3 %``) or in points (``0.5 points``);
    ``floor`` is the smallest absolute change that may be called a regression."""

    tolerance: Quantity | None = None
    floor: Quantity | None = None
    off: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if value is False or value == "off":  # YAML 1.2 leaves 'off' a string
            return {"off": True}
        if isinstance(value, str):
            value = {"tolerance": value}
        if isinstance(value, Mapping):
            return {
                key: parse_quantity(item) if key in ("tolerance", "floor") and isinstance(item, str) else item
                for key, item in value.items()
            }
        return value

    @model_validator(mode="after")
    def _check(self) -> GateRule:
        if self.tolerance is not None and (self.tolerance.notation is Notation.PLAIN or self.tolerance.value < 0):
            raise ValueError("a tolerance is written in percent ('3 %') or in points ('0.5 points') and is not negative")
        return self


class Scenario(Model):
    """One YAML file. See docs/scenario.md for every key."""

    version: Literal[1]
    name: Name
    description: str = ""
    model: ModelSpec
    data: DataSpec
    recipes: dict[Name, Recipe] = Field(min_length=1)
    reference: Name | None = None
    hardware: tuple[Name | HardwareTarget, ...] = ("cpu",)
    measure: MeasureSpec = MeasureSpec()
    sla: dict[str, str] = {}
    gate: dict[str, GateRule] = {}
    stored: Literal["advise", "decide"] = "advise"
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _name_recipes(cls, value: object) -> object:
        if isinstance(value, Mapping) and isinstance(value.get("recipes"), Mapping):
            named = {key: {**item, "name": str(key)} if isinstance(item, Mapping) else item for key, item in value["recipes"].items()}
            return {**value, "recipes": named}
        return value

    def clauses(self) -> tuple[SlaClause, ...]:
        """The SLA as parsed clauses, in the order written."""
        return tuple(parse_clause(key, text) for key, text in self.sla.items())


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A scenario and the file that it stands in. ``root`` is the project: nothing outside it is read. ``targets`` are its ``hardware``,
    looked up. ``lines`` gives the line of a key path such as ``recipes.int8.passes[1]``."""

    scenario: Scenario
    path: Path
    root: Path
    text: str
    targets: tuple[HardwareTarget, ...]
    lines: Mapping[str, int]

    @property
    def folder(self) -> Path:
        return self.path.parent
