"""What every plugin file keeps to, checked for whatever files are there."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from harness import plugins
from harness.core import plugin as contracts
from harness.core.errors import BadInput
from harness.core.plugin import Options

FAMILIES = get_args(plugins.Family)
FILES = [(family, name) for family in FAMILIES for name in plugins.names(family)]
PROTOCOLS = {
    "sources": lambda _: contracts.Source,
    "passes": lambda _: contracts.Pass,
    "runtimes": lambda _: contracts.Runtime,
    "loads": lambda plugin: contracts.NetworkLoad if hasattr(plugin, "drive") else contracts.Load,
    "metrics": lambda plugin: {
        "launch": contracts.LaunchMetric,
        "sample": contracts.SampleMetric,
        "exact": contracts.ExactMetric,
    }[plugin.kind],
    "reports": lambda _: contracts.Report,
    "serving": lambda _: contracts.Serving,
    "fleets": lambda _: contracts.FleetSource,
}
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorflow",
    "tensorflow_model_optimization",
    "tf_keras",
    "ai_edge_litert",
    "h5py",
    "keras",
    "locust",
    "ray",
    "transformers",
    "altair",
    "vl_convert",
    "sklearn",
    "mlflow",
    "wandb",
)
every_plugin = pytest.mark.parametrize(("family", "name"), FILES, ids=[f"{family}/{name}" for family, name in FILES])


def extras():
    project = tomllib.loads((Path(plugins.PACKAGE).parent / "pyproject.toml").read_text(encoding="utf-8"))
    return set(project["project"]["optional-dependencies"])


def text_of(path):
    return path.read_text(encoding="utf-8")


def test_there_are_plugins_to_check_in_every_family_that_has_a_folder():
    folders = {path.name for path in plugins.PACKAGE.iterdir() if path.is_dir() and path.name in FAMILIES}
    assert {family for family, _ in FILES} == folders >= {"sources", "passes", "runtimes", "loads", "metrics", "reports"}


@every_plugin
def test_the_file_ends_with_the_plugin_and_its_help_is_one_sentence(family, name):
    path = plugins.find(family, name)
    told = plugins.describe(path)
    assert text_of(path).splitlines()[-1] == f"PLUGIN = {plugins.load(family, name).__name__}"
    assert told.name == name == path.stem
    assert told.help.endswith(".") and told.help[0].isupper()


@every_plugin
def test_the_options_are_frozen_and_an_unknown_key_is_refused(family, name):
    plugin = plugins.load(family, name)
    assert issubclass(plugin, Options) and plugin is not Options
    required = {field: "a" for field, info in plugin.model_fields.items() if info.is_required()}
    options = plugin.model_validate(required)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        plugin.model_validate({**required, "no_such_option": 1})
    assert plugin.model_config["frozen"] is True and hash(options) == hash(plugin.model_validate(required))


@every_plugin
def test_it_names_the_extra_that_brings_its_packages_and_the_field_of_its_short_form(family, name):
    plugin = plugins.load(family, name)
    assert plugin.extra is None or plugin.extra in extras()
    assert (plugin.extra is None) == (not plugin.packages)
    assert TypeAdapter(tuple[str, ...]).validate_python(plugin.packages, strict=True) == plugin.packages
    if plugin.short is not None:
        assert plugin.model_validate({plugin.short: "text"}).model_dump()[plugin.short] == "text"
    assert not [field for field, info in plugin.model_fields.items() if info.is_required() and field != plugin.short]


@every_plugin
def test_it_has_the_members_of_its_family(family, name):
    if family not in PROTOCOLS:
        pytest.fail(f"no protocol is known here for '{family}': add it to PROTOCOLS")
    plugin = plugins.load(family, name)
    protocol = PROTOCOLS[family](plugin)
    for attribute, hint in get_type_hints(protocol).items():
        (kind,) = get_args(hint)  # ClassVar[kind]
        assert hasattr(plugin, attribute), f"{attribute} is missing"
        TypeAdapter(kind).validate_python(getattr(plugin, attribute), strict=True)
    for member, wanted in inspect.getmembers(protocol, inspect.isfunction):
        if member.startswith("_"):
            continue
        given = getattr(plugin, member, None)
        assert inspect.isfunction(given), f"{member} is missing"
        parameters = list(inspect.signature(given).parameters.values())
        expected = list(inspect.signature(wanted).parameters)
        assert [parameter.name for parameter in parameters[: len(expected)]] == expected
        assert all(parameter.default is not parameter.empty for parameter in parameters[len(expected) :])


def test_what_a_source_or_a_pass_gives_some_runtime_opens():
    opened = {kind for name in plugins.names("runtimes") for kind in plugins.load("runtimes", name).accepts}
    kinds = [plugins.load(family, name) for family, name in FILES if family in ("sources", "passes")]
    given = {given for kind in kinds for given in (kind.accepts if kind.produces == contracts.SAME else (kind.produces,))}
    assert given <= opened


def test_importing_every_plugin_file_imports_no_framework():
    code = f"""
import json, sys
from harness import plugins
for family, name in {FILES!r}:
    plugins.load(family, name)
print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))
print(json.dumps(sorted(name for name in sys.modules if name.startswith("harness.formats."))))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, formats = (json.loads(line) for line in told.stdout.splitlines())
    assert heavy == []
    assert "harness.formats.embedding" not in formats


@pytest.mark.parametrize(
    "helper", sorted(path for family in FAMILIES for path in (plugins.PACKAGE / family).glob("_*.py")), ids=lambda path: path.stem
)
def test_a_file_that_starts_with_an_underscore_is_no_plugin(helper):
    assert helper.stem not in plugins.names(helper.parent.name)
    assert "PLUGIN =" not in text_of(helper)


NEW = {
    "passes/rename_outputs.py": '''
"""See RenameOutputs."""

from typing import ClassVar

from harness.core.plugin import Options


class RenameOutputs(Options):
    """Give outputs other names."""

    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ()

    suffix: str = "_new"

    def apply(self, artifact, context):
        return artifact


PLUGIN = RenameOutputs
''',
    "runtimes/abacus.py": '''
"""See Abacus."""

from typing import ClassVar

from harness.core.plugin import Options


class Abacus(Options):
    """Counts with beads."""

    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    beads: int = 100

    def preload(self, artifact):
        return

    def open(self, artifact, device):
        raise NotImplementedError


PLUGIN = Abacus
''',
    "metrics/patience.py": '''
"""See Patience."""

from typing import ClassVar

from harness.core.plugin import Options
from harness.core.units import Unit


class Patience(Options):
    """How long somebody waits."""

    kind: ClassVar[str] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[str] = "lower"
    tolerance: ClassVar[float | None] = 0.1
    floor: ClassVar[float] = 0.0

    def of_run(self, run, batch_size):
        return float(run.load_ns)

    def log_ratio(self, baseline, candidate, batch_size):
        return 0.0


PLUGIN = Patience
''',
    "reports/telegram.py": '''
"""See Telegram."""

from typing import ClassVar

from harness.core.plugin import Options


class Telegram(Options):
    """The verdict in ten words."""

    file_name: ClassVar[str] = "report.telegram"

    def render(self, result):
        return result.headline.encode()


PLUGIN = Telegram
''',
}

SCENARIO = """\
version: 1
name: beads
model:
  onnx: beads.onnx
data:
  random: {x: "float32[4]"}
recipes:
  counted:
    passes: [rename_outputs: {suffix: _counted}]
    runtime: {abacus: {beads: 10}}
sla:
  patience: at most 3 s
gate:
  patience: {tolerance: 5 %}
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Runs code over a copy of the package that has one new file in each of four families, and not one line changed elsewhere."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(plugins.PACKAGE, folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in NEW.items():
        (folder / "harness" / path).write_text(text.lstrip(), encoding="utf-8")
    scenario = folder / "project" / "beads.yaml"
    scenario.parent.mkdir()
    scenario.with_name("beads.onnx").write_bytes(b"is read much later")
    scenario.write_text(SCENARIO, encoding="utf-8")

    def run(code):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder / "project", env=environment, check=False
        )
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    assert run("import json, harness; print(json.dumps(harness.__file__))") == str(folder / "harness" / "__init__.py")
    return run


def test_a_new_file_is_listed_and_loaded_and_nothing_else_was_touched(extended):
    told = extended(f"""
import json
from harness import plugins
told = {{}}
for path in {sorted(NEW)!r}:
    family, name = path.removesuffix(".py").split("/")
    assert name in plugins.names(family)
    told[name] = [plugins.describe(plugins.find(family, name)).help, plugins.load(family, name).__name__]
print(json.dumps(told))
""")
    assert told == {
        "patience": ["How long somebody waits.", "Patience"],
        "rename_outputs": ["Give outputs other names.", "RenameOutputs"],
        "telegram": ["The verdict in ten words.", "Telegram"],
        "abacus": ["Counts with beads.", "Abacus"],
    }


def test_a_scenario_may_use_the_new_pass_runtime_and_metric_at_once(extended):
    told = extended("""
import json
from pathlib import Path
from harness.core.errors import BadInput
from harness.engine.plugin_options import plugin_of
from harness.engine.read_scenario import read_scenario
file = read_scenario(Path("beads.yaml"))
recipe = file.scenario.recipes["counted"]
right = [plugin_of("passes", recipe.passes[0], file.folder).suffix, plugin_of("runtimes", recipe.runtime, file.folder).beads]
Path("wrong.yaml").write_text(Path("beads.yaml").read_text().replace("beads: 10", "bead: 10"))
try:
    read_scenario(Path("wrong.yaml"))
except BadInput as error:
    print(json.dumps([*right, str(error)]))
""")
    assert told[:2] == ["_counted", 10]
    assert "recipes.counted.runtime" in told[2] and "unknown key 'bead'\n  did you mean 'beads'?" in told[2]


def test_a_new_file_that_breaks_the_contract_is_caught(tmp_path, monkeypatch):
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "unfinished.py").write_text("class Unfinished:\n    pass\n", encoding="utf-8")
    monkeypatch.setattr(plugins, "PACKAGE", tmp_path)
    assert plugins.names("passes") == ("unfinished",)
    with pytest.raises(BadInput, match="a plugin file ends with 'PLUGIN = ClassName'"):
        test_the_file_ends_with_the_plugin_and_its_help_is_one_sentence("passes", "unfinished")
