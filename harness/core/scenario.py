"""What the user wrote: one YAML file as validated models. Reading it from disk, with line numbers, is ``engine/read_scenario``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, StringConstraints, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema

from harness.core.allowed import NOTHING_MORE, Allowed
from harness.core.units import KINDS, NUMBER, Notation, Quantity, Unit, parse_quantity, spellings_of


class Model(BaseModel):
    """The base of all that is read from YAML: frozen, unknown keys refused; the text under a field describes its key."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
"""A name that is also fit for a file name."""
Count = Annotated[int, Field(ge=1, strict=True)]
"""A whole number, at least 1; text and true are not taken for one."""


def quantity_of(unit: Unit, example: str) -> BeforeValidator:
    """Read text such as ``20 s`` into a float in ``unit``; another unit, or none, is refused."""
    known = ", ".join(spellings_of(unit))

    def read(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{KINDS[unit]} is needed, such as '{example}'")
        try:
            quantity = parse_quantity(str(value))
        except ValueError as error:
            raise ValueError(f"{value!r} is not {KINDS[unit]}: write a number and one of {known}, such as '{example}'") from error
        if quantity.unit is Unit.NUMBER:
            raise ValueError(f"{value} has no unit: write '{value} {example.split()[1]}', or another of {known}")
        if quantity.unit is not unit:
            raise ValueError(f"{value!r} is {KINDS[quantity.unit]}, not {KINDS[unit]}: write it in {known}")
        return quantity.value

    return BeforeValidator(read)


def quantity_pattern(*spellings: str) -> str:
    """The form of a quantity with one of these units, for the JSON Schema."""
    return rf"^\s*\+?{NUMBER}\s*({'|'.join(map(re.escape, spellings))})\s*$"


def _written_as(unit: Unit, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": quantity_pattern(*spellings_of(unit)), "examples": list(examples)})


Duration = Annotated[float, quantity_of(Unit.NANOSECONDS, "20 s"), Field(gt=0), _written_as(Unit.NANOSECONDS, "20 s", "500 ms", "2 min")]
"""Written ``20 s``; held in ns."""
Bytes = Annotated[float, quantity_of(Unit.BYTES, "4 GiB"), Field(gt=0), _written_as(Unit.BYTES, "4 GiB", "512 MiB")]
"""Written ``4 GiB``; held in bytes."""
Rate = Annotated[float, quantity_of(Unit.PER_SECOND, "200 /s"), Field(gt=0), _written_as(Unit.PER_SECOND, "200 /s")]
"""Written ``200 /s``; held in 1/s."""


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
        if isinstance(value, PluginRef):
            return value
        if not isinstance(value, Mapping) or (len(value) != 1 and set(value) != {"name", "options"}):
            raise ValueError("write one name, or one name with its options: 'quantize_static: {per_channel: true}'")
        if "name" in value:
            return value
        ((name, options),) = value.items()
        if options is None or isinstance(options, Mapping):
            return {"name": name, "options": dict(options or {})}
        return {"name": name, "options": {"": options}}

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
    """Keyword arguments of the factory."""
    files: tuple[str, ...] = ()
    """Further files that decide what comes out, such as weights that the factory reads; a change of one is a change of the model."""

    @model_validator(mode="before")
    @classmethod
    def _read_source_key(cls, value: object) -> object:
        if not isinstance(value, Mapping) or "source" in value:
            return value
        rest = {key: item for key, item in value.items() if _is_beside_a_source(key)}
        sources = {key: item for key, item in value.items() if key not in rest}
        if len(sources) != 1:
            found = f"{' and '.join(sources)} are {len(sources)} sources" if sources else "no source"
            raise ValueError(f"{found}: name one, such as 'factory: models/net.py:build' or 'onnx: model.onnx'")
        return {"source": sources, **rest}


def _is_beside_a_source(key: str) -> bool:
    """Whether a key of ``model`` is 'args' or 'files', or a slip of the pen for one of them that is then refused as unknown."""
    return not key.endswith(".py") and bool(difflib.get_close_matches(key, ("args", "files"), n=1))


Factory = Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")]
"""A Python file beside the scenario and a callable in it: ``models/net.py:test_set``."""


class DataSpec(Model):
    """The data sets by what they are for. A factory returns ``(inputs, targets)``, the sample axis first."""

    evaluation: Factory | None = None
    """A factory of the samples that every recipe is measured and scored on."""
    calibration: Factory | None = None
    """A factory of samples that passes take ranges from, such as quantize_static."""
    training: Factory | None = None
    """A factory of samples that passes may train on."""
    random: dict[str, str] = {}
    """Inputs drawn from the scenario's seed where there is no data, by input name: ``float32[3, 224, 224]`` (dtype and the shape of one
    sample), ``int64[128] below 30522``. There is no accuracy then."""
    samples: Count = 64
    """How many samples ``random`` draws."""
    task: Literal["classification", "embedding", "regression", "other"] = "other"
    """What the outputs are: accuracy exists for classification."""
    args: dict[str, JsonValue] = {}
    """Keyword arguments of every data factory."""

    @model_validator(mode="after")
    def _has_inputs(self) -> DataSpec:
        if self.evaluation is None and not self.random:
            raise ValueError("inputs are missing: name 'evaluation' (a factory) or 'random' (drawn from the seed)")
        if self.evaluation is not None and self.random:
            raise ValueError("'evaluation' and 'random' both give the inputs: keep one")
        return self


class Recipe(Model):
    """An ordered list of passes, then a runtime. The name is the key that it stands under."""

    name: SkipJsonSchema[str] = ""
    passes: tuple[Step, ...] = ()
    """What is done to the model, in this order."""
    runtime: PluginRef
    """What runs the model."""
    server: PluginRef = PluginRef(name="embedded")
    """What serves the model under a load over the network and by ``harness serve``, with its options for batching."""


class Requirements(Model):
    """What a machine must have to be a target. Names match where the text occurs in what the machine reports, case ignored."""

    cpu_model: str | None = None
    """Text that occurs in the CPU's name."""
    cores: Count | None = None
    """At least so many."""
    memory: Bytes | None = None
    """At least so much."""
    gpu: str | None = None
    """Text that occurs in the name of a GPU."""


class HardwareTarget(Model):
    """A named machine: what it must have, what it costs an hour, which device and how many cores are used."""

    name: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*)?$", max_length=64)] = ""
    """Part of a trial's identity; in hardware.yaml the key is the name."""
    device: Annotated[str, StringConstraints(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Where sessions run: cpu, cuda or cuda:N."""
    requires: Requirements = Requirements()
    labels: dict[Name, str] = {}
    """What a node of a fleet must be labelled with: trials for this target are measured by 'harness run --on' alone, on such a node."""
    cores: Count | None = None
    """Every launch is pinned to the first N cores that this process may use; all where absent."""
    threads: Count | None = None
    """What runtimes are told; as many as cores where absent."""
    price_per_hour: float | None = Field(None, ge=0, allow_inf_nan=False)
    """What this machine costs, to compare hardware by."""
    currency: str = "USD"
    """Of the price."""


BUILT_IN_TARGETS = {"cpu": HardwareTarget(name="cpu"), "cuda": HardwareTarget(name="cuda", device="cuda")}


class CapacitySpec(Model):
    """How the highest rate that keeps the promises is looked for, on every launch of a trial under a load over the network."""

    at_least: Rate = Field(cast(float, "10 /s"), validate_default=True)
    """Where the search begins, in requests a second."""
    at_most: Rate
    """Where it ends; capacity is then told as at least this."""
    step: Duration = Field(cast(float, "3 s"), validate_default=True)
    """Time of one load."""
    runs: int = Field(3, ge=1, le=9, strict=True)
    """Loads of one rate, of which most must keep the promises."""
    precision: Annotated[float, quantity_of(Unit.FRACTION, "5 %"), Field(gt=0, lt=1), _written_as(Unit.FRACTION, "5 %")] = Field(
        cast(float, "5 %"), validate_default=True
    )
    """The search ends when the next rate that breaks them is so near."""

    @model_validator(mode="after")
    def _is_a_range(self) -> CapacitySpec:
        if self.at_least >= self.at_most:
            raise ValueError(f"'at_least' ({self.at_least:g} /s) must lie below 'at_most' ({self.at_most:g} /s)")
        return self


SHORTEST_PERIOD_NS = 10e6


class TelemetrySpec(Model):
    """What is watched beside a measurement: energy, clocks, heat, memory, and who else uses the device. ``off`` alone switches it off."""

    period: Duration = Field(cast(float, "100 ms"), validate_default=True)
    """How often clocks, power and memory are looked at; counters of energy are read at the ends of every slice."""
    off: SkipJsonSchema[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if value is False or value == "off":  # YAML 1.2 leaves 'off' a string
            return {"off": True}
        if isinstance(value, bool | str | int | float):
            raise ValueError(f"write 'off', or how often to look: '{{period: 100 ms}}', not '{value}'")
        return value

    @model_validator(mode="after")
    def _not_too_often(self) -> TelemetrySpec:
        if self.period < SHORTEST_PERIOD_NS:
            raise ValueError("looking more often than every 10 ms would disturb what is measured: raise the period")
        return self


class MeasureSpec(Model):
    """How a trial is measured. Times are of each launch, of each arm."""

    batch_sizes: tuple[Count, ...] = Field((1,), min_length=1)
    """Samples in one query; each size is a trial of its own."""
    load: PluginRef = PluginRef(name="single_stream")
    """When queries are issued."""
    capacity: CapacitySpec | None = None
    """Look for the highest rate that keeps the promised latencies, too: ``{at_most: 2000 /s}``. Under a load over the network."""
    launches: int = Field(5, ge=2, strict=True)
    """Launches of a trial that is measured alone."""
    duration: Duration = Field(cast(float, "0.5 s"), validate_default=True)
    """Measured time of a launch. More launches tell more than longer ones."""
    warm_up: Duration = Field(cast(float, "0.25 s"), validate_default=True)
    """Warm-up of a launch, not measured."""
    timeout: Duration = Field(cast(float, "120 s"), validate_default=True)
    """A stage of a launch that takes longer is ended."""
    build_timeout: Duration = Field(cast(float, "1800 s"), validate_default=True)
    """A source, a pass, or the predictions over the evaluation set that take longer are ended."""
    telemetry: TelemetrySpec = TelemetrySpec()
    """What is watched beside the measurement, from another process: ``{period: 100 ms}``, or ``off``."""


class SlaClause(Model):
    """One promise. ``recipe`` is None where it holds for every recipe.

    ``relation``: ``absolute`` (50 ms), ``share`` (50 % of another recipe: limit 0.5), ``below`` and ``above`` (a distance to another
    recipe: 1 point below fp32). ``speed_up`` is 3 where "3 times faster" was written: for a metric whose larger values are better it
    means three times as much. ``text`` is what was written.
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
    speed_up: float | None = None


FASTER = ("as fast as", "faster than")
SMALLER = ("as small as", "smaller than")
MOST_CHARACTERS = 200
"""Of a clause: the time that matching takes grows with the cube of its spaces."""
_CLAUSE = re.compile(
    r"\s*(?P<bound>at most|at least)\s+(?P<quantity>.+?)"
    r"(?:\s+(?P<relation>of|below|above)\s+(?P<of>[A-Za-z0-9][\w-]*))?\s*"
)
_TIMES = re.compile(
    rf"\s*at least\s+(?P<times>\d+(?:\.\d+)?)\s+times\s+(?P<how>{'|'.join(FASTER + SMALLER)})"
    r"\s+(?P<of>[A-Za-z0-9][\w-]*)\s*"
)


def parse_clause(key: str, text: str, line: int | None = None) -> SlaClause:
    """Read ``int8.model_size: at most 50 % of fp32``; also ``at least 3 times faster than fp32`` (a share of at most 1/3).

    Raises ValueError with the forms that are known.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{text[:40]!r}... is no clause: it has {len(text):,} characters, and a clause at most {MOST_CHARACTERS}")
    recipe, _, metric = key.rpartition(".")
    common = {"recipe": recipe or None, "metric": metric, "text": f"{key}: {text}", "line": line}
    if match := _TIMES.fullmatch(text):
        times = float(match["times"])
        if times == 0:
            raise ValueError(f"{text!r} promises nothing: write a number above 0, such as 'at least 3 times faster than {match['of']}'")
        return SlaClause(
            **common,
            bound="at most",
            limit=1 / times,
            unit=Unit.FRACTION,
            notation=Notation.PERCENT,
            relation="share",
            of=match["of"],
            speed_up=times if match["how"] in FASTER else None,
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


def _read_tolerance(value: object) -> object:
    """Percent or points; a bare number is taken too, for metrics whose values are plain numbers."""
    quantity = _read_quantity(value)
    bare = isinstance(value, int | float) and isinstance(quantity, Quantity)
    if isinstance(quantity, Quantity) and ((quantity.notation is Notation.PLAIN and not bare) or quantity.value < 0):
        raise ValueError("a tolerance is written in percent ('3 %') or in points ('0.5 points') and is not negative")
    return quantity


def _read_floor(value: object) -> object:
    quantity = _read_quantity(value)
    if isinstance(quantity, Quantity) and quantity.value < 0:
        raise ValueError("a floor is not negative")
    return quantity


def _read_quantity(value: object) -> object:
    if value is None or isinstance(value, Quantity):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a number with its unit is needed, such as '3 %', '0.5 points' or '1 ms'")
    return parse_quantity(str(value))


class GateRule(Model):
    """How much worse a metric may become. A string alone is its tolerance; ``off`` leaves the metric out."""

    tolerance: Annotated[Quantity | None, BeforeValidator(_read_tolerance)] = None
    """How much worse the metric may become: ``3 %``, or ``0.5 points`` where shares are compared."""
    floor: Annotated[Quantity | None, BeforeValidator(_read_floor)] = None
    """The smallest change in the metric's own unit that may be called a regression."""
    off: bool = False
    """True: not compared with a baseline."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if value is False or value == "off":  # YAML 1.2 leaves 'off' a string
            return {"off": True}
        if value is True or value in ("on", "yes", "no"):
            raise ValueError(f"write a tolerance such as '3 %', or 'off', not '{'true' if value is True else value}'")
        return {"tolerance": value} if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _check(self) -> GateRule:
        if self.off and (self.tolerance is not None or self.floor is not None):
            raise ValueError("'off' stands alone: a metric that is not gated has no tolerance and no floor")
        return self


CHOICE = "one_of"
"""In a search space ``{one_of: [...]}`` stands for each of its values: in place of an option's value, a plugin's options, or a plugin."""


class SpaceSpec(Model):
    """Recipes to search among: what a recipe has, with ``{one_of: [...]}`` for an option's value, for all options of a plugin, or for a
    plugin; null among passes is none at all."""

    name: Name | None = None
    """The beginning of its candidates' names; the last pass's name, or the runtime's, where absent."""
    passes: tuple[Step, ...] = ()
    """What is done to the model, in this order."""
    runtime: PluginRef
    """What runs the model."""
    server: PluginRef = PluginRef(name="embedded")
    """What serves the model under a load over the network."""


class SearchSpec(Model):
    """What ``harness search`` looks through for the best recipe."""

    against: Name | None = None
    """The recipe that every candidate is measured against in pairs of launches; the reference where absent."""
    space: tuple[SpaceSpec, ...] = Field(min_length=1)
    """Recipes with choices; every combination of choices is a candidate."""


def _kind_of_target(value: object) -> str:
    return "<target>" if isinstance(value, Mapping | HardwareTarget) else "<name>"


Target = Annotated[Annotated[Name, Tag("<name>")] | Annotated[HardwareTarget, Tag("<target>")], Discriminator(_kind_of_target)]
"""A target by its name, or written in place."""


def _is_clause(value: object) -> object:
    if isinstance(value, Mapping):
        raise ValueError("a clause is text: write one for a recipe as 'int8.latency_p99: at most 50 ms'")
    if not isinstance(value, str):
        raise ValueError("a clause is text, such as 'at most 50 ms' or 'at least 97 %'")
    return value


class Scenario(Model):
    """One YAML file. See docs/scenario.md for every key."""

    version: Literal[1]
    """The version of this language."""
    name: Name
    """Names the scenario in reports and its baselines: give each scenario its own."""
    description: str = ""
    """For people."""
    model: ModelSpec
    data: DataSpec
    recipes: dict[Name, Recipe] = Field(min_length=1)
    """The ways in which the model is made and run; each is measured."""
    reference: Name | None = None
    """The recipe that speed-up and loss of accuracy are told against."""
    hardware: tuple[Target, ...] = Field(("cpu",), min_length=1)
    """The machines that trials are for: cpu, cuda, a name from hardware.yaml beside this file, or a target written in place. A trial whose
    target is not this machine is skipped."""
    measure: MeasureSpec = MeasureSpec()
    sla: dict[str, Annotated[str, BeforeValidator(_is_clause)]] = {}
    """Promises by metric, for every recipe or for one (``int8.accuracy``): ``at most 50 ms``, ``at least 97 %``, ``at most 50 % of
    fp32``, ``at most 1 point below fp32``, ``at least 3 times faster than fp32``."""
    gate: dict[str, GateRule] = {}
    """By metric, how much worse it may become than its baseline; what is not named keeps its own tolerance."""
    search: SearchSpec | None = None
    stored: Literal["advise", "decide"] = "advise"
    """What a comparison with stored numbers is worth where the baseline cannot be measured again."""
    seed: int = Field(0, ge=0, strict=True)
    """All random choices follow from it."""

    @model_validator(mode="before")
    @classmethod
    def _name_recipes(cls, value: object) -> object:
        if isinstance(value, Mapping) and isinstance(value.get("recipes"), Mapping):
            named = {key: {"name": str(key), **item} if isinstance(item, Mapping) else item for key, item in value["recipes"].items()}
            return {**value, "recipes": named}
        return value

    def clauses(self) -> tuple[SlaClause, ...]:
        """The SLA as parsed clauses, in the order written."""
        return tuple(parse_clause(key, text) for key, text in self.sla.items())


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A scenario and the file that it stands in. ``root`` is the project: nothing outside it is read. ``targets`` are its ``hardware``,
    looked up. ``lines`` gives the line of a key path such as ``recipes.int8.passes[1]``. ``allowed`` is what the user lets it do beyond
    the project."""

    scenario: Scenario
    path: Path
    root: Path
    text: str
    targets: tuple[HardwareTarget, ...]
    lines: Mapping[str, int]
    allowed: Allowed = NOTHING_MORE

    @property
    def folder(self) -> Path:
        return self.path.parent
