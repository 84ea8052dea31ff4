import importlib.metadata
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.engine import toolchain
from harness.engine.toolchain import Toolchain, installed, installed_in

THIS = Path(sys.executable)
KNOWN = Toolchain(
    "3.11",
    {"numpy": "2.4.1", "pillow": "12.0", "scikit-learn": "1.8.0", "opencv-python": "4.12", "opencv-python-headless": "4.12"},
    {"numpy": ("numpy",), "PIL": ("pillow",), "sklearn": ("scikit-learn",), "cv2": ("opencv-python", "opencv-python-headless")},
)


def test_versions_are_those_of_the_packages_that_are_installed():
    found = installed()
    assert found.python == ".".join(platform.python_version_tuple()[:2])
    assert found.versions["numpy"] == importlib.metadata.version("numpy")
    assert "ruamel-yaml" in found.providers["ruamel"]


def test_names_are_compared_as_pypi_does():
    assert KNOWN.of_packages(("Scikit_Learn", "NumPy")) == {"scikit-learn": "1.8.0", "numpy": "2.4.1"}


def test_what_is_not_installed_has_no_version():
    assert KNOWN.of_packages(("torch",)) == {}
    assert KNOWN.of_imports(frozenset({"torch", "os"})) == {}


def test_an_import_leads_to_every_package_that_provides_it():
    assert KNOWN.of_imports(frozenset({"PIL", "cv2", "os"})) == {
        "pillow": "12.0",
        "opencv-python": "4.12",
        "opencv-python-headless": "4.12",
    }


def layered(folder):
    """Two folders on the path, each with another version of one package."""
    for name, version in (("above", "1.0"), ("below", "2.0")):
        info = folder / name / "Layered_Thing.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Layered_Thing\nVersion: {version}\n")
    return [str(folder / "above"), str(folder / "below")]


def test_of_two_versions_on_the_path_the_one_that_is_imported_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*layered(tmp_path), *sys.path])
    assert importlib.metadata.version("layered-thing") == "1.0"
    assert installed.__wrapped__().versions["layered-thing"] == "1.0"


def test_another_interpreter_is_asked_by_running_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(layered(tmp_path)))
    asked, here = installed_in(THIS), installed()
    assert asked.versions.pop("layered-thing") == "1.0"
    assert asked == here


def test_an_interpreter_without_the_harness_cannot_be_a_worker(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(tmp_path / "bare")
    python = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(BadInput, match=f"{python} has no harness installed") as caught:
        installed_in(python)
    assert "install it there from where you installed it here" in str(caught.value)


def script(folder, text):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo 'unknown option -P' >&2; exit 2", "is not a usable Python: unknown option -P"),
        ("exit 1", "is not a usable Python: no message"),
        ("exit 0", "is not a usable Python: it does not answer as one"),
        ("echo hello", "is not a usable Python: it does not answer as one"),
    ],
)
def test_a_program_that_is_no_python_is_bad_input(tmp_path, text, told):
    with pytest.raises(BadInput, match=told):
        installed_in(script(tmp_path, text))


def test_an_interpreter_that_is_not_there_or_never_answers_is_bad_input(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"cannot be run as Python: .*No such file"):
        installed_in(tmp_path / "gone")

    def never(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(toolchain.subprocess, "run", never)
    with pytest.raises(BadInput, match=r"cannot be run as Python: .*timed out after 120 seconds"):
        installed_in(THIS)
