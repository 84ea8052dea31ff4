"""What goes into a trial: its content digest, and the cache key of every step that builds it.

Over what goes in, not over what comes out: training and compilers do not repeat to the bit on another machine. Nothing is run to find it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness import plugins
from harness.core.plugin import DataRole, Pass, ReadsFiles, Source, SourceFiles
from harness.core.result import Content
from harness.engine.bounds import Bounds
from harness.engine.code_closure import code_text, follow_imports, imported_names, texts_in
from harness.engine.plugin_options import spelled_out
from harness.engine.served import under_network_load

if TYPE_CHECKING:
    from harness.core.plan import Trial
    from harness.core.scenario import PluginRef
    from harness.engine.toolchain import Toolchain

BUILD = 1
"""Raised when this program builds something else from the same input: cached artifacts and baselines are then of another content."""
ROLES: tuple[DataRole, ...] = ("evaluation", "calibration", "training")


@dataclass(frozen=True, slots=True)
class Part:
    """Something that goes in: ``facts`` are what the user controls, ``versions`` what it is made with."""

    facts: object
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        return _digest([self.facts, self.versions])


@dataclass(frozen=True, slots=True)
class StepKey:
    """One step of a build (the source first, then the passes): its plugin, the data sets that it reads, its cache key."""

    plugin: PluginRef
    reads: tuple[DataRole, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a trial's artifact comes about: its steps in order, the cache key of each data set, and the content that they make up.

    ``predictions`` is the cache key of the artifact's outputs over the evaluation set. ``parts`` are digests of what the user controls, by
    name and without the machine.
    """

    steps: tuple[StepKey, ...]
    data: Mapping[DataRole, str]
    predictions: str
    content: Content
    parts: Mapping[str, str] = field(default_factory=dict)


def derive(trial: Trial, toolchain: Toolchain) -> Derivation:
    """The derivation of a trial under a toolchain. Reads files of the project, runs nothing."""
    parts = _Parts(trial, toolchain)
    scenario, recipe = trial.source.scenario, trial.recipe
    model = parts.model()
    passes = [(ref, parts.with_files("passes", ref), parts.reads(ref)) for ref in recipe.passes]
    roles = [role for role in ROLES if role == "evaluation" or any(role in reads for _, _, reads in passes)]
    data = {role: parts.data(role) for role in roles}
    runtime, load = parts.plugin("runtimes", recipe.runtime), parts.with_files("loads", scenario.measure.load)
    server = [parts.plugin("serving", recipe.server)] if under_network_load(trial) else []
    target = [trial.target.device, trial.target.cores, trial.target.threads]

    key = _digest([BUILD, toolchain.python, scenario.seed, model.digest, data["evaluation"].digest])
    steps = [StepKey(scenario.model.source, ("evaluation",), key)]
    for ref, part, reads in passes:
        key = _digest([BUILD, key, part.digest, [data[role].digest for role in reads]])
        steps.append(StepKey(ref, reads, key))

    everything = [model, *data.values(), *(part for _, part, _ in passes), runtime, load, *server]
    task = scenario.data.task  # decides which metrics there are
    source = _digest([BUILD, scenario.seed, target, trial.batch_size, task, [part.facts for part in everything]])
    versions = {"python": toolchain.python}
    for part in everything:
        versions.update(part.versions)
    return Derivation(
        steps=tuple(steps),
        data={role: part.digest for role, part in data.items()},
        predictions=_digest(["predictions", key, runtime.digest, target, trial.batch_size, data["evaluation"].digest]),
        content=Content(_digest([source, versions]), source, dict(sorted(versions.items()))),
        parts={
            "build": str(BUILD),
            "seed": str(scenario.seed),
            "task": task,
            "model": _short(model),
            **{f"{role} data": _short(part) for role, part in data.items()},
            **{f"pass {number}, {ref.name}": _short(part) for number, (ref, part, _) in enumerate(passes, 1)},
            f"runtime {recipe.runtime.name}": _short(runtime),
            f"load {scenario.measure.load.name}": _short(load),
            **{f"server {recipe.server.name}": _short(part) for part in server},
        },
    )


def files_read(trial: Trial, toolchain: Toolchain) -> tuple[Path, ...]:
    """The files that the model of a trial is read from and those that its scenario names, such as weights."""
    return _Parts(trial, toolchain).files_read()


class _Parts:
    """The parts of one trial."""

    def __init__(self, trial: Trial, toolchain: Toolchain) -> None:
        self.scenario = trial.source.scenario
        self.folder = trial.source.folder.resolve()
        self.root = trial.source.root.resolve()
        self.bounds = Bounds(self.root, trial.source.allowed.outside)
        self.toolchain = toolchain

    def plugin(self, family: plugins.Family, ref: PluginRef) -> Part:
        """A built-in by its options (defaults filled in), a plugin of the user's own by its code and its options as written."""
        path = plugins.find(family, ref.name, self.folder)
        if ref.is_file:
            code = self.code([path])
            return Part([code.facts, ref.options], code.versions)
        kind = plugins.load(family, ref.name)
        options = kind.model_validate(spelled_out(kind, ref)).model_dump(mode="json")
        return Part([ref.name, options], {f"harness.{family}.{ref.name}": plugin_digest(path), **self.toolchain.of_packages(kind.packages)})

    def code(self, paths: Iterable[Path]) -> Part:
        """Files of the project with all that they import inside it, and the versions of what they import from outside."""
        closure = follow_imports(paths, self.root)
        return Part(closure.digest(self.root), self.toolchain.of_imports(closure.imports))

    def model(self) -> Part:
        """The source, its arguments, its code and the files that it reads."""
        spec = self.scenario.model
        plugin = self.plugin("sources", spec.source)
        needed = self._source_files()
        code = self.code(needed.code)
        contents = self.contents([*needed.files, *(self.folder / name for name in spec.files)])
        facts = [plugin.facts, spec.args, code.facts, contents, list(needed.names)]
        return Part(facts, {**plugin.versions, **code.versions})

    def with_files(self, family: plugins.Family, ref: PluginRef) -> Part:
        """A pass, with the project's code and files that its options name."""
        plugin = self.plugin(family, ref)
        if ref.is_file:
            return plugin
        kind = plugins.load(family, ref.name)
        options = kind.model_validate(spelled_out(kind, ref))
        if not isinstance(options, ReadsFiles):
            return plugin
        needed = options.depends_on(self.folder)
        code = self.code(needed.code)
        facts = [plugin.facts, code.facts, self.contents(needed.files), list(needed.names)]
        return Part(facts, {**plugin.versions, **code.versions})

    def contents(self, files: Iterable[Path]) -> dict[str, str]:
        """The digest of each file by its path in the project; by its whole path where it is allowed to lie elsewhere."""
        return {self.bounds.name_of(path): _file_digest(path) for path in files}

    def data(self, role: DataRole) -> Part:
        """A data set: its factory with arguments and code, or what is drawn from the seed."""
        spec = self.scenario.data
        factory = {"evaluation": spec.evaluation, "calibration": spec.calibration, "training": spec.training}[role]
        if factory is None:
            return Part(["random", spec.random, spec.samples, self.scenario.seed], self.toolchain.of_packages(("numpy",)))
        code = self.code([self.folder / factory.rpartition(":")[0]])
        return Part([factory, spec.args, code.facts], code.versions)

    def reads(self, ref: PluginRef) -> tuple[DataRole, ...]:
        """The data sets that a pass reads; for a pass of the user's own, which is not imported here, all that the scenario gives."""
        given = [role for role in ROLES if role == "evaluation" or getattr(self.scenario.data, role) is not None]
        if ref.is_file:
            return tuple(given)
        kind = cast("type[Pass]", plugins.load("passes", ref.name))
        return tuple(role for role in given if role in kind.needs)

    def files_read(self) -> tuple[Path, ...]:
        """Whole paths of the model's own files and of those that ``model.files`` names."""
        return (*self._source_files().files, *((self.folder / name).resolve() for name in self.scenario.model.files))

    def _source_files(self) -> SourceFiles:
        spec = self.scenario.model.source
        if spec.is_file:
            return SourceFiles()
        kind = plugins.load("sources", spec.name)
        return cast("Source", kind.model_validate(spelled_out(kind, spec))).depends_on(self.folder)


@cache
def plugin_digest(path: Path) -> str:
    """Twelve hex digits over a built-in plugin's code, as toolchains hold them: its file, what its family shares (``_training.py``) and the
    formats, as far as it imports them, and the programs that it starts (``harness.server``), with what those import. The nouns of ``core``
    decide nothing, and what the engine decides is told by BUILD."""
    waiting, found = [path], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.add(file)
            waiting += _leads_to(file)
    return hashlib.sha256("\0".join(map(code_text, sorted(found))).encode()).hexdigest()[:12]


def _leads_to(file: Path) -> list[Path]:
    """What a file of this program imports of it or names: ``harness.server`` in ``python -m``, ``_triton_model.py`` for a server to run."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = texts_in(tree)
    started = [f"{text}.__main__" for text in texts if re.fullmatch(r"harness(\.\w+)+", text)]
    found = [file.with_name(text) for text in texts if re.fullmatch(r"_[a-z]\w*\.py", text)]
    for name in (*imported_names(tree), *started):
        top, *parts = name.split(".")
        if top == "harness" and len(parts) > 1 and parts[0] not in ("core", "engine"):
            found.append(plugins.PACKAGE / parts[0] / f"{parts[1]}.py")
    return found


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()


def _short(part: Part) -> str:
    return _digest(part.facts)[:16]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
