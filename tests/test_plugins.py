import subprocess
import sys

import pytest

from harness import plugins
from harness.core.errors import BadInput, MissingPackage
from harness.core.plugin import Options

OWN = '''
"""A pass of a user's own."""
import sys
from harness.core.plugin import Options


class Double(Options):
    """Doubles everything.

    The second paragraph is for those who read on.
    """

    times: int = 2


PLUGIN = Double
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "passes").mkdir()
    path = tmp_path / "passes" / "double.py"
    path.write_text(OWN)
    return path


def test_names_are_the_files_of_the_folder_and_helpers_are_none():
    folder = plugins.PACKAGE / "passes"
    assert plugins.names("passes") == tuple(sorted(path.stem for path in folder.glob("*.py") if path.name[0] != "_"))
    assert (folder / "_ort_quantization.py").is_file()
    assert "export_onnx" in plugins.names("passes") and "_ort_quantization" not in plugins.names("passes")


def test_a_built_in_is_found_by_its_name():
    assert plugins.find("runtimes", "torch") == plugins.PACKAGE / "runtimes" / "torch.py"


@pytest.mark.parametrize(
    ("family", "name", "said"),
    [
        ("passes", "quantise_static", "unknown pass 'quantise_static'\n  did you mean 'quantize_static'? 'harness list passes' shows all"),
        ("runtimes", "onnx-runtime", "unknown runtime 'onnx-runtime'\n  did you mean 'onnxruntime'? 'harness list runtimes' shows all"),
        ("metrics", "zzz", "unknown metric 'zzz'\n  'harness list metrics' shows all"),
        ("passes", "_ort_quantization", "unknown pass '_ort_quantization'"),
        ("passes", "../sources/fake", "unknown pass '../sources/fake'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_right_one(family, name, said):
    with pytest.raises(BadInput) as raised:
        plugins.find(family, name)
    assert str(raised.value).startswith(said)


def test_a_plugin_of_the_users_own_is_found_beside_the_scenario_and_loaded_by_its_path(own, tmp_path):
    assert plugins.find("passes", "./passes/double.py", tmp_path) == own
    plugin = plugins.load("passes", "./passes/double.py", tmp_path)
    assert plugin().times == 2 and issubclass(plugin, Options)
    assert plugins.load("passes", "passes/double.py", tmp_path) is plugin  # the same content is imported once


def test_a_file_that_has_changed_is_loaded_anew(own, tmp_path):
    before = plugins.load("passes", "passes/double.py", tmp_path)
    own.write_text(OWN.replace("times: int = 2", "times: int = 3"))
    after = plugins.load("passes", "passes/double.py", tmp_path)
    assert (before().times, after().times) == (2, 3)
    assert plugins.digest(own) not in (None, plugins.digest(plugins.PACKAGE / "plugins.py"))


def test_a_built_in_may_also_be_given_by_its_path():
    plugin = plugins.load("loads", "loads/offline.py", plugins.PACKAGE)
    assert plugin.__name__ == "Offline"


def test_a_path_that_does_not_exist_is_told_with_the_place_that_was_looked_at(tmp_path):
    with pytest.raises(BadInput) as raised:
        plugins.find("passes", "passes/doubel.py", tmp_path)
    assert str(raised.value) == f"pass file 'passes/doubel.py' does not exist\n  looked for {tmp_path / 'passes' / 'doubel.py'}"


def test_describing_reads_name_and_help_and_runs_nothing(own):
    own.write_text(OWN.replace("import sys\n", "raise RuntimeError('this file was run')\n"))
    told = plugins.describe(own)
    assert (told.name, told.help, told.path) == ("double", "Doubles everything.", own)


def test_listing_every_family_imports_no_plugin_and_no_numpy():
    code = """
import sys
from typing import get_args
from harness import plugins
for family in get_args(plugins.Family):
    for name in plugins.names(family):
        assert plugins.describe(plugins.find(family, name)).help
print(sorted(name for name in sys.modules if name.split(".")[0] in ("numpy", "pydantic", "scipy") or name.startswith("harness.passes")))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Double:\n    pass\n", "a plugin file ends with 'PLUGIN = ClassName', naming a class in it"),
        ("from elsewhere import Double\nPLUGIN = Double\n", "a plugin file ends with 'PLUGIN = ClassName', naming a class in it"),
        ("PLUGIN = 3\n", "a plugin file ends with 'PLUGIN = ClassName', naming a class in it"),
        ("class Double(:\n", "not valid Python"),
        ("x = '\0'\n", "not valid Python"),
    ],
)
def test_a_file_that_is_no_plugin_is_told_with_its_path(own, tmp_path, text, said):
    own.write_text(text)
    for look in (lambda: plugins.describe(own), lambda: plugins.load("passes", "passes/double.py", tmp_path)):
        with pytest.raises(BadInput) as raised:
            look()
        assert str(own) in str(raised.value) and said in str(raised.value)


def test_a_file_that_is_no_text_is_told_with_its_path(own):
    own.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not valid Python"):
        plugins.describe(own)


def test_a_class_that_is_no_options_is_refused(own, tmp_path):
    own.write_text("class Double:\n    '''Doubles.'''\n\n\nPLUGIN = Double\n")
    with pytest.raises(BadInput, match=r"'Double' is no plugin: derive it from harness\.core\.plugin\.Options"):
        plugins.load("passes", "passes/double.py", tmp_path)


def test_a_file_that_fails_when_it_is_imported_is_told_with_its_path_and_may_be_mended(own, tmp_path):
    own.write_text(OWN.replace("import sys\n", "import a_package_that_nobody_has\n"))
    for _ in range(2):  # the first failure leaves nothing half imported
        with pytest.raises(BadInput, match="the plugin could not be imported: ModuleNotFoundError") as raised:
            plugins.load("passes", "passes/double.py", tmp_path)
    assert str(own) in str(raised.value)
    own.write_text(OWN)
    assert plugins.load("passes", "passes/double.py", tmp_path)().times == 2


def test_a_missing_package_answers_with_the_install_line():
    plugins.require("pydantic", plugin="double", extra="torch")
    with pytest.raises(MissingPackage) as raised:
        plugins.require("a_package_that_nobody_has", plugin="double", extra="torch")
    assert str(raised.value) == (
        "'double' needs the package 'a_package_that_nobody_has', which is not installed\n  install it with: pip install 'harness[torch]'"
    )
    assert raised.value.exit_code == 3
