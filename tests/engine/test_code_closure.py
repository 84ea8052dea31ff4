import ast

import pytest
from fakes.projects import Project

from harness.engine.code_closure import code_text, follow_imports


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def files_of(project, *starts):
    """The files that are followed from these, and the names that lie elsewhere."""
    closure = follow_imports([project.root / start for start in starts], project.root)
    return [path.relative_to(project.root).as_posix() for path in closure.files], closure.imports


def digest_of(project, *starts):
    return follow_imports([project.root / start for start in starts], project.root).digest(project.root)


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("import layers", ["layers/__init__.py"]),
        ("import layers.dense", ["layers/__init__.py", "layers/dense.py"]),
        ("import layers.dense as dense, tools", ["layers/__init__.py", "layers/dense.py", "tools.py"]),
        ("from layers import dense", ["layers/__init__.py", "layers/dense.py"]),
        ("from layers.dense import make", ["layers/__init__.py", "layers/dense.py"]),
        ("from layers import VERSION", ["layers/__init__.py"]),
        ("from layers import *", ["layers/__init__.py"]),
        ("from tools import *", ["tools.py"]),
        ("from layers.deep import one", ["layers/__init__.py", "layers/deep/__init__.py", "layers/deep/one.py"]),
        ("import bare.inner", ["bare/inner.py"]),
        ("from bare import inner", ["bare/inner.py"]),
        ("import both", ["both/__init__.py"]),
        ("def build():\n    import tools", ["tools.py"]),
        ("try:\n    import tools\nexcept ImportError:\n    tools = None", ["tools.py"]),
    ],
)
def test_an_import_leads_to_its_module_and_the_packages_on_the_way(project, statement, files):
    for path in (
        "layers/__init__",
        "layers/dense",
        "layers/deep/__init__",
        "layers/deep/one",
        "tools",
        "bare/inner",
        "both/__init__",
        "both",
    ):
        project.write(f"models/{path}.py", "")
    project.write("models/net.py", statement)
    assert files_of(project, "models/net.py")[0] == sorted(f"models/{file}" for file in [*files, "net.py"])


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("from . import beside", "pkg/inner/beside.py"),
        ("from .beside import anything", "pkg/inner/beside.py"),
        ("from .. import above", "pkg/above.py"),
        ("from ..other.far import anything", "pkg/other/far.py"),
    ],
)
def test_a_relative_import_is_followed_from_the_file_that_says_it(project, statement, file):
    for path in ("pkg/inner/beside.py", "pkg/above.py", "pkg/other/far.py"):
        project.write(path, "")
    project.write("pkg/inner/start.py", statement)
    assert files_of(project, "pkg/inner/start.py") == (sorted([file, "pkg/inner/start.py"]), frozenset())


def test_imports_of_imports_are_followed_and_a_circle_ends(project):
    project.write("a.py", "import b")
    project.write("b.py", "import c")
    project.write("c.py", "import a")
    assert files_of(project, "a.py") == (["a.py", "b.py", "c.py"], frozenset())


def test_what_lies_elsewhere_is_named_by_its_first_part(project):
    project.write("net.py", "import torch.nn.functional as F\nfrom numpy import linalg\nimport os.path, tools\nfrom .nowhere import x\n")
    project.write("tools.py", "from scipy.stats import norm\n")
    assert files_of(project, "net.py") == (["net.py", "tools.py"], {"torch", "numpy", "os", "scipy"})


def test_a_module_is_looked_for_where_the_worker_will_find_it(project):
    """Beside the file that is started from, then in the project's root: not beside the module that imports it."""
    project.write("models/net.py", "import layers.dense")
    project.write("models/layers/__init__.py", "")
    project.write("models/layers/dense.py", "import names, shared")
    for path in ("models/layers/names.py", "models/names.py", "names.py", "models/layers/shared.py", "shared.py"):
        project.write(path, "")
    found, _ = files_of(project, "models/net.py")
    assert set(found) == {"models/net.py", "models/layers/__init__.py", "models/layers/dense.py", "models/names.py", "shared.py"}


def test_nothing_outside_the_project_is_followed(tmp_path):
    outside, project = Project(tmp_path), Project(tmp_path / "project")
    outside.write("secret.py", "import more")
    outside.write("library/__init__.py", "")
    project.write("pkg/net.py", "from ... import secret\nfrom ....tmp import other\nimport library\n")
    (project.root / "pkg" / "library").symlink_to(tmp_path / "library")
    assert files_of(project, "pkg/net.py") == (["pkg/net.py"], {"library"})


def test_a_file_that_two_starts_import_is_taken_once_in_any_order(project):
    project.write("a.py", "import shared")
    project.write("b.py", "import shared")
    project.write("shared.py", "")
    assert files_of(project, "a.py", "b.py")[0] == ["a.py", "b.py", "shared.py"]
    assert digest_of(project, "a.py", "b.py") == digest_of(project, "b.py", "a.py", "shared.py")


def test_a_start_that_is_not_there_is_no_file_of_the_closure(project):
    assert files_of(project, "gone.py") == ([], frozenset())


@pytest.mark.parametrize(
    "text", [b"def build(:\n", b"import tools\n\x00", "übel".encode("latin-1"), b"if True:\n  x\n y\n", b'"""never ends']
)
def test_a_file_that_is_no_python_counts_as_it_is(project, text):
    project.write("net.py", text)
    before = digest_of(project, "net.py")
    assert files_of(project, "net.py") == (["net.py"], frozenset())
    project.write("net.py", text.replace(b"e", b"a").replace(b"x", b"y").replace(b"tools", b"fools"))
    assert digest_of(project, "net.py") != before


CODE = '''\
"""What it is."""
import os  # for its path


def build(width):
    # As wide as it is told.
    text = "# no comment"
    return [
        width,  # first
        text + os.sep,
    ]
'''


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  # for its path", ""),
        lambda text: text.replace("# As wide as it is told.", "# Wide."),
        lambda text: text.replace("    # As wide as it is told.\n", ""),
        lambda text: text.replace("\n\n\n", "\n\n\n\n\n"),
        lambda text: text.replace("os.sep,\n", "os.sep,   \n"),
        lambda text: text.replace("        width,", "\n        # second\n        width,"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n\n# The end.\n",
        lambda text: text.rstrip("\n"),
        lambda text: f"# -*- coding: utf-8 -*-\n{text}",
    ],
)
def test_comments_blank_lines_and_line_ends_do_not_count(project, change):
    project.write("net.py", CODE)
    before = digest_of(project, "net.py")
    assert change(CODE) != CODE
    project.write("net.py", change(CODE))
    assert digest_of(project, "net.py") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("width,  #", "width + 1,  #"),
        lambda text: text.replace("# no comment", "# no"),
        lambda text: text.replace("What it is.", "What it was."),
        lambda text: text.replace("    return [", "        return ["),
        lambda text: text.replace("os.sep", "os.linesep"),
    ],
)
def test_every_other_change_of_the_code_counts(project, change):
    project.write("net.py", CODE)
    before = digest_of(project, "net.py")
    assert change(CODE) != CODE
    project.write("net.py", change(CODE))
    assert digest_of(project, "net.py") != before


PROMPT = 'PROMPT = {prefix}"""Translate.\n\n  # Not a comment.\nText: \n"""  # A comment.\n\nNAME = "x"\n'


@pytest.mark.parametrize("prefix", ["", "f", "r", "rb"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\n\n  # Not", "\n  # Not"),
        ("\n\n  # Not", "\n\n\n  # Not"),
        ("Text: \n", "Text:\n"),
        ("# Not a comment.", ""),
        ("\n\n  #", "\n \n  #"),
    ],
)
def test_text_in_quotes_counts_to_the_last_blank(project, prefix, before, after):
    text = PROMPT.format(prefix=prefix)
    project.write("net.py", text)
    first = digest_of(project, "net.py")
    assert before in text
    project.write("net.py", text.replace(before, after))
    assert digest_of(project, "net.py") != first
    project.write("net.py", text.replace("  # A comment.\n\n", "\n"))
    assert digest_of(project, "net.py") == first


@pytest.mark.parametrize("text", [CODE, *(PROMPT.format(prefix=prefix) for prefix in ("", "f", "r", "rb")), 'x = f"""{\n  1\n}\n\n"""\n'])
def test_what_is_left_of_the_code_says_the_same(project, text):
    path = project.write("net.py", text)
    assert ast.dump(ast.parse(code_text(path))) == ast.dump(ast.parse(text))


def test_the_name_of_a_file_counts(project):
    project.write("a.py", "x = 1")
    project.write("b.py", "x = 1")
    assert digest_of(project, "a.py") != digest_of(project, "b.py")


def test_two_files_are_not_one_long_one(project):
    project.write("a.py", "import b\nx = 1\n")
    project.write("b.py", "y = 2\n")
    before = digest_of(project, "a.py")
    project.write("a.py", "import b\n")
    project.write("b.py", "x = 1\ny = 2\n")
    assert digest_of(project, "a.py") != before
