"""The floors of the program, kept by its syntax trees: a module imports its own floor and those below it, and frameworks late.

5  cli, commands, pytest_plugin                               and __main__
4  pipeline
3  engine, store, server
2  sources, passes, runtimes, loads, metrics, reports, serving, fleets; formats helps those that handle models; trackers
1  plugins
0  core, kserve, stats; testing, what users test with
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from harness import plugins

PACKAGE = plugins.PACKAGE
FAMILIES = set(get_args(plugins.Family))
FLOORS = {
    "": 0,
    "core": 0,
    "stats": 0,
    "plugins": 1,
    "kserve": 0,
    "testing": 0,
    **dict.fromkeys(FAMILIES, 2),
    "formats": 2,
    "trackers": 2,
    "engine": 3,
    "server": 3,
    "store": 3,
    "pipeline": 4,
    "commands": 5,
    "pytest_plugin": 5,
    "cli": 5,
    "__main__": 5,
}
HEAVY = {
    "ai_edge_litert",
    "altair",
    "h5py",
    "keras",
    "locust",
    "mlflow",
    "onnx",
    "onnxruntime",
    "openvino",
    "ray",
    "sklearn",
    "tensorflow",
    "tensorflow_model_optimization",
    "tensorrt",
    "tf_keras",
    "torch",
    "transformers",
    "vl_convert",
    "wandb",
}
USERS_OF_FORMATS = {"formats", "sources", "passes", "runtimes", "engine.worker", "engine.datasets"}
"""``engine.datasets`` runs the user's data factories, in a worker."""
IMPORTED_LATE = ("formats.embedding", "formats.int4_weight")
"""The files that may import a framework as they are imported: a saved model refers to the class in each."""


@dataclass(frozen=True)
class Import:
    """One import in one file. ``where`` is "top" (done when the file is imported), "late" (in a function) or "types" (never done)."""

    by: str
    line: int
    name: str
    where: str

    @property
    def ours(self):
        """The module inside the package, dotted; None for another package's."""
        first, _, rest = self.name.partition(".")
        return rest if first == "harness" else None

    def __str__(self):
        return f"harness.{self.by}:{self.line} imports {self.name} ({self.where})"


def imports_of(package):
    return [found for path in sorted(package.rglob("*.py")) for found in imports_in(path, package)]


def imports_in(path, package):
    by = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return list(_walk(tree, by, "top", package))


def _walk(node, by, where, package):
    match node:
        case ast.Import():
            yield from (Import(by, node.lineno, alias.name, where) for alias in node.names)
        case ast.ImportFrom():
            assert node.level == 0, f"harness.{by}:{node.lineno}: a relative import hides its floor"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(by, node.lineno, inner if _is_module(inner, package) else node.module, where)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            where = "late" if where == "top" else where
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            for child in node.body:
                yield from _walk(child, by, "types", package)
            for child in node.orelse:
                yield from _walk(child, by, where, package)
            return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, by, where, package)


def _is_module(name, package):
    path = package.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def room(module):
    """The folder or file of the package that a module belongs to."""
    return module.partition(".")[0]


def is_plugin(module):
    family, _, name = module.partition(".")
    return family in FAMILIES and bool(name)


def upwards(imports):
    return [one for one in imports if one.ours is not None and FLOORS[room(one.ours)] > FLOORS[room(one.by)]]


def between_families(imports):
    return [one for one in imports if room(one.by) in FAMILIES and room(one.ours or "") in FAMILIES - {room(one.by)}]


def formats_where_no_model_is_handled(imports):
    return [one for one in imports if room(one.ours or "") == "formats" and not {room(one.by), one.by} & USERS_OF_FORMATS]


def formats_that_know_plugins(imports):
    return [one for one in imports if room(one.by) == "formats" and room(one.ours or "") in FAMILIES]


def plugins_by_name(imports):
    return [one for one in imports if FLOORS[room(one.by)] != 2 and is_plugin(one.ours or "")]


def frameworks_at_import(imports):
    """Also the file that is imported late, when that is imported early."""
    early = [one for one in imports if one.where == "top" and one.by not in IMPORTED_LATE]
    return [one for one in early if one.name.partition(".")[0] in HEAVY or one.ours in IMPORTED_LATE]


def frameworks_off_their_floor(imports):
    """Frameworks belong to the plugins' floor and to the worker, late too."""
    real = [one for one in imports if one.where != "types" and one.name.partition(".")[0] in HEAVY]
    return [one for one in real if FLOORS[room(one.by)] != 2 and one.by != "engine.worker"]


RULES = (
    upwards,
    between_families,
    formats_where_no_model_is_handled,
    formats_that_know_plugins,
    plugins_by_name,
    frameworks_at_import,
    frameworks_off_their_floor,
)


def said(imports):
    return [str(one) for one in imports]


@pytest.fixture(scope="module")
def imports():
    return imports_of(PACKAGE)


def test_every_file_stands_on_a_floor():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} <= set(FLOORS)


def test_imports_go_downwards_or_stay_on_their_floor(imports):
    assert said(upwards(imports)) == []


def test_families_never_import_each_other(imports):
    assert said(between_families(imports)) == []


def test_only_what_handles_models_uses_formats_and_formats_know_no_plugin(imports):
    assert said(formats_where_no_model_is_handled(imports)) == []
    assert said(formats_that_know_plugins(imports)) == []


def test_nobody_off_their_floor_names_a_plugin(imports):
    assert said(plugins_by_name(imports)) == []


def test_frameworks_are_imported_late(imports):
    assert said(frameworks_at_import(imports)) == []


def test_frameworks_are_imported_by_plugins_and_by_the_worker_alone(imports):
    assert said(frameworks_off_their_floor(imports)) == []


def test_only_plugins_and_what_a_model_needs_are_imported_by_a_name_that_is_given():
    by_name = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if getattr(node, "attr", getattr(node, "id", None)) in ("import_module", "__import__")
    }
    assert by_name == {"plugins", "formats.torch_module", "engine.template"}


@pytest.mark.parametrize(
    ("path", "text", "rules"),
    [
        ("core/noun.py", "from harness.engine import measure", {"upwards"}),
        ("stats/sums.py", "def f():\n    from harness.plugins import find", {"upwards"}),
        ("core/noun.py", "if TYPE_CHECKING:\n    from harness.plugins import PluginInfo", {"upwards"}),
        ("engine/verb.py", "def f():\n    from harness import pipeline", {"upwards"}),
        ("metrics/speed.py", "from harness.stats.paired import anything\nfrom harness.core import units", set()),
        ("metrics/speed.py", "from harness.loads import offline", {"between_families"}),
        ("metrics/speed.py", "from harness.metrics import _latency", set()),
        ("reports/html.py", "def f():\n    import harness.metrics.latency_p50", {"between_families"}),
        ("loads/burst.py", "from harness.formats.files import digest_of", {"formats_where_no_model_is_handled"}),
        ("formats/onnx_model.py", "from harness.passes import export_onnx", {"formats_that_know_plugins"}),
        ("engine/worker.py", "def f():\n    import torch\n    from harness.formats import files", set()),
        ("engine/verb.py", "def f():\n    from harness.runtimes.fake import FakeSession", {"plugins_by_name"}),
        ("store/disk.py", "from harness import passes\nfrom harness.passes import export_onnx", {"plugins_by_name"}),
        ("runtimes/torch.py", "import torch.nn", {"frameworks_at_import"}),
        ("runtimes/torch.py", "class Session:\n    import torch", {"frameworks_at_import"}),
        ("runtimes/torch.py", "try:\n    from torch import nn\nexcept ImportError:\n    nn = None", {"frameworks_at_import"}),
        ("runtimes/torch.py", "if TYPE_CHECKING:\n    import torch\nelse:\n    import onnx", {"frameworks_at_import"}),
        ("runtimes/torch.py", "if TYPE_CHECKING:\n    import torch\n\n\ndef f():\n    import torch", set()),
        ("sources/hub.py", "from harness.formats.embedding import Embedding", {"frameworks_at_import"}),
        ("formats/embedding.py", "import torch", set()),
        ("engine/verb.py", "def f():\n    import torch", {"frameworks_off_their_floor"}),
        ("engine/verb.py", "if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_a_broken_rule_is_found(tmp_path, path, text, rules):
    package = tmp_path / "harness"
    real = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]
    for file in [*real, Path(path)]:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).touch()
    (package / path).write_text(text, encoding="utf-8")
    found = imports_of(package)
    assert {rule.__name__ for rule in RULES if rule(found)} == rules
