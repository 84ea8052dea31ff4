"""What a command imports: only what it needs, so that the help is there at once and the parent of a measurement stays small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"onnx", "onnxruntime", "onnxscript", "sklearn", "tensorflow", "torch", "torchvision", "transformers"}
NUMBERS = {"numpy", "pandas", "scipy"}
HEAVY = FRAMEWORKS | NUMBERS | {"altair", "asyncio", "jinja2", "mlflow", "psutil", "pydantic", "rich", "ruamel", "vl_convert", "wandb"}
COMMANDS = {"harness.commands", *(f"harness.commands.{path.stem}" for path in (ROOT / "harness" / "commands").glob("[!_]*.py"))}
ASK = """
import json, sys
from harness.cli import main
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code
print("\\0" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules}), sorted(sys.modules)]))
"""


def imported(*words):
    """The packages and the modules that are loaded when a command has done its work well."""
    done = subprocess.run([sys.executable, "-c", ASK, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    code, packages, modules = json.loads(done.stdout.rpartition("\0")[2])
    assert code == 0, done.stderr
    assert "harness" in packages
    return set(packages), set(modules)


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("gate", "--help"),
        ("audit", "--help"),
        ("audit", "verify", "--help"),
        ("baseline", "accept", "--help"),
        ("compare", "--help"),
        ("bisect", "--help"),
        ("diff", "--help"),
        ("doctor", "--help"),
        ("export", "bench-file", "--help"),
        ("export", "mlflow", "--help"),
        ("export", "run", "--help"),
        ("export", "wandb", "--help"),
        ("history", "--help"),
        ("import", "--help"),
        ("profile", "--help"),
        ("search", "--help"),
        ("serve", "--help"),
    ],
)
def test_help_loads_no_framework_and_nothing_else_that_takes_long(words):
    packages, modules = imported(*words)
    assert packages & HEAVY == set()
    assert {name for name in modules if name.startswith("harness.")} == {"harness.cli", "harness.core", "harness.core.errors", *COMMANDS}


def test_plugins_are_listed_without_loading_one():
    packages, modules = imported("list", "runtimes")
    assert packages & HEAVY == set()
    assert [name for name in modules if name.startswith("harness.runtimes")] == []


def test_scenarios_are_checked_without_a_framework():
    packages, _ = imported("validate", "scenarios")
    assert packages & FRAMEWORKS == set()
