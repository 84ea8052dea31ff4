"""What a stranger's scenario, result or file may do, each point from outside; real models are in integration/test_security_models.py."""

import ast
import base64
import gzip
import html
import json
import re
import zlib
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from fakes import results
from fakes.workplaces import workplace
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from harness import cli, plugins
from harness.core.baseline import BASELINE_SCHEMA, Baseline, Portable
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plain_text import plain_text
from harness.core.profile import OperatorTime, Profile
from harness.core.result import Content, Packed
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment
from harness.engine.packing import unpack
from harness.engine.read_scenario import read_scenario
from harness.engine.worktree import Worktrees
from harness.reports.html import Html
from harness.store.baselines import Baselines
from harness.store.bench_files import _document
from harness.store.bench_files.read import read_bench_file
from harness.store.cache import Cache
from harness.store.runs import RunFolder

ROOT = Path(__file__).parent.parent
SCRIPT = "<script>alert(1)</script>"
WORKFLOWS = sorted({*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("harness/engine/starter/.github/workflows/*.yml")})
MARKDOWN = {"h2", "h3", "ul", "ol", "li", "p", "blockquote", "strong", "em", "code", "pre", "sub", "details", "summary", "br"}
MARKDOWN |= {"table", "thead", "tbody", "tr", "th", "td"}
ACTIONS = sorted(ROOT.glob(".github/actions/**/action.yml"))


# Reports


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self._inside = [], [], "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._inside = tag

    def handle_data(self, data):
        self.words += "" if self._inside in ("script", "style") else data

    @property
    def acting(self):
        """What could run something or fetch something, but for the page's own script."""
        handlers = [name for name, _ in self.attributes if name.startswith("on")]
        links = [value for name, value in self.attributes if name in ("href", "src") and not value.startswith(("#", "data:,"))]
        return [tag for tag in self.tags if tag in ("img", "iframe", "object", "embed", "form", "base")] + handlers + links


def as_html(text):
    page = Elements(text)
    assert page.tags.count("script") == 1 and page.acting == []
    assert SCRIPT in page.words


def as_markdown(text):
    page = Elements(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text))
    assert set(page.tags) <= MARKDOWN and page.acting == []
    assert SCRIPT in page.words


def as_junit(text):
    names = [value for element in ElementTree.fromstring(text).iter() for value in element.attrib.values()]
    assert any(SCRIPT in name for name in names)
    assert not [element for element in ElementTree.fromstring(text).iter() if element.tag == "script"]


def as_github(text):
    assert all(re.match("::(error|warning) ", line) for line in text.splitlines())
    assert SCRIPT in text


def as_json(text):
    assert any(SCRIPT in trial["id"] for trial in json.loads(text)["trials"])


def as_text(text):
    assert SCRIPT in text and plain_text(text) == text


@pytest.fixture
def hostile_run(tmp_path, monkeypatch):
    """A saved run whose scenario, recipes, model files, operators, reasons and notes are all named by someone who wishes us ill."""
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "reports" / "20261128-101500-9f3a")
    folder.path.mkdir(parents=True)
    folder.save(results.hostile(), {})
    return folder


@pytest.mark.parametrize("form", [as_html, as_markdown, as_junit, as_github, as_json, as_text], ids=lambda form: form.__name__[3:])
def test_a_scenario_a_model_and_an_operator_named_as_a_script_are_text_in_every_report(hostile_run, form):
    done = CliRunner().invoke(cli.cli, ["report", str(hostile_run.path), "--format", form.__name__[3:]])
    assert done.exit_code == 0, done.output
    form(done.stdout)


def test_an_operator_named_as_a_script_is_text_on_the_page_of_a_profile():
    operators = (OperatorTime(SCRIPT, SCRIPT, SCRIPT, 10, 2e6), OperatorTime(f"a/{SCRIPT}", SCRIPT, "cpu", 10, 1e6))
    page = Elements(Html().profile_page(f"{SCRIPT}/a-b1", Profile(10, 4_000_000, operators), f"{SCRIPT}.json").decode())
    assert "script" not in page.tags and page.acting == []
    assert page.words.count(SCRIPT) > 6


def test_a_script_as_a_name_is_text_in_a_comparison_of_two_runs(hostile_run):
    later = RunFolder(hostile_run.path.with_name("20261128-111500-9f3a"))
    later.save(replace(results.hostile(), id=later.id, started_at="2026-11-28T11:15:00Z"), {})
    runs = [str(hostile_run.path), str(later.path)]
    done = CliRunner().invoke(cli.cli, ["diff", *runs])
    assert done.exit_code == 0, done.exception
    assert SCRIPT in done.stdout and plain_text(done.stdout) == done.stdout
    listed = CliRunner().invoke(cli.cli, ["diff", *runs, "--json"])
    assert SCRIPT in json.dumps(json.loads(listed.stdout))


def test_every_template_escapes_and_only_our_own_parts_are_put_in_as_they_are():
    trusted = {
        name
        for path in (plugins.PACKAGE / "reports" / "templates").glob("*.j2")
        for name in re.findall(r"([\w.]+)\s*\|\s*safe", path.read_text(encoding="utf-8"))
    }
    assert {name.rpartition("_")[2] for name in trusted} == {"style", "script", "svg"}
    environments = [node for _, node in calls() if called(node) in ("Environment", "jinja2.Environment") and "loader" in options(node)]
    assert environments and all(options(node).get("autoescape") is True for node in environments)


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp.exe", "\u200bhidden", "\ud800"])
def test_nothing_that_a_terminal_acts_on_is_printed_as_it_is(evil):
    told = plain_text(f"name {evil} näme 名前\n\tend")
    assert told.startswith("name ") and told.endswith(" näme 名前\n\tend") and "\\" in told
    assert told == plain_text(told) and told.encode()


# Scenarios

GOOD = """\
version: 1
name: fork
model:
  factory: net.py:build
data:
  evaluation: net.py:test_set
recipes:
  fp32: {runtime: torch}
"""
TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nraise SystemExit('this was run')\n"


@pytest.fixture
def fork(tmp_path, tmp_path_factory):
    """A clone of a repository that someone else wrote: whatever of it is imported leaves a mark."""
    place = workplace(tmp_path / "fork", tmp_path_factory.getbasetemp() / "security-cache")
    place.write("scenarios/fork.yaml", GOOD)
    for name in ("scenarios/net.py", "conftest.py", "setup.py", "sitecustomize.py", "hubconf.py", "harness_plugin.py"):
        place.write(name, TRAP + "def build(): ...\ndef test_set(): ...\n")
    place.write("scenarios/own.py", TRAP + "class Own: ...\nPLUGIN = Own\n")
    place.write("outside/secret.py", "def build(): ...\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "net.py").write_text("def build(): ...\nclass Own: ...\nPLUGIN = Own\n")
    (tmp_path / "elsewhere" / "model.onnx").write_bytes(b"weights")
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    (tmp_path / "elsewhere" / "base.yaml").write_text(GOOD)
    (tmp_path / "elsewhere" / "hardware.yaml").write_text("version: 1\ntargets: {box: {device: cpu}}\n")
    return place


def changed(*pairs):
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_to_validate_a_forks_scenario_runs_nothing_of_it(fork):
    text = GOOD.replace("{runtime: torch}", "{passes: [./own.py: {level: 2}], runtime: {./own.py: {}}}")
    fork.write("scenarios/base.yaml", text + "measure:\n  load: ./own.py\n")
    fork.write("scenarios/fork.yaml", "extends: base.yaml\nname: other\n")
    fork.write("models/bert/modeling.py", TRAP)
    fork.write("models/bert/config.json", '{"auto_map": {"AutoModel": "modeling.Bert"}}')
    fork.write("models/bert/pytorch_model.bin", "cos\nsystem\n(S'touch ran'\ntR.")
    hub = "huggingface: {id: ../models/bert, trust_remote_code: true}"
    fork.write("scenarios/bert.yaml", changed(("name: fork", "name: bert"), ("factory: net.py:build", hub)))
    program = ("-P", "-m", "harness.cli")  # as the installed command starts: without the present folder among the modules
    done = fork.harness("validate", "scenarios", program=program)
    assert (done.code, done.err) == (0, "")
    assert "bert is valid, 1 trial" in done.out
    assert not [*fork.root.rglob("*.ran"), *fork.root.rglob("ran")]


LEADS_OUT = {
    "a factory": ("factory: net.py:build", "factory: ../../elsewhere/net.py:build"),
    "a factory by its whole path": ("factory: net.py:build", "factory: ELSEWHERE/net.py:build"),
    "a factory by a link": ("factory: net.py:build", "factory: linked.py:build"),
    "data": ("evaluation: net.py:test_set", "evaluation: ../../elsewhere/net.py:build"),
    "a file of weights": ("factory: net.py:build", "factory: net.py:build\n  files: [../../elsewhere/model.onnx]"),
    "an ONNX file": ("factory: net.py:build", "onnx: ELSEWHERE/model.onnx"),
    "an ONNX file by a link": ("factory: net.py:build", "onnx: linked.onnx"),
    "TorchScript": ("factory: net.py:build", "torchscript: ../../elsewhere/model.onnx"),
    "a Hugging Face folder": ("factory: net.py:build", "huggingface: ../../elsewhere"),
    "a torch hub repository": ("factory: net.py:build", "torch_hub: {name: build, repo: ../../elsewhere}"),
    "a pass": ("{runtime: torch}", "{passes: [../../elsewhere/net.py], runtime: torch}"),
    "a student": ("{runtime: torch}", "{passes: [distill: {student: '../../elsewhere/net.py:build'}], runtime: torch}"),
    "a runtime": ("{runtime: torch}", "{runtime: ../../elsewhere/net.py}"),
    "a load": ("recipes:", "measure: {load: ../../elsewhere/net.py}\nrecipes:"),
    "a base": ("version: 1", "extends: ../../elsewhere/base.yaml\nversion: 1"),
}


def validated(fork, *words, env=None):
    """What ``harness validate`` says in this process: its stdout, and the text of the error that it ends with."""
    done = CliRunner().invoke(cli.cli, ["validate", *words], env=env)
    return done.stdout, str(done.exception)


def elsewhere(fork):
    return fork.root.parent / "elsewhere"


@pytest.mark.parametrize("what", LEADS_OUT)
def test_a_scenario_that_leads_out_of_the_project_is_refused(fork, monkeypatch, what):
    monkeypatch.chdir(fork.root)
    Path("scenarios/linked.py").symlink_to(elsewhere(fork) / "net.py")
    Path("scenarios/linked.onnx").symlink_to(elsewhere(fork) / "model.onnx")
    old, new = LEADS_OUT[what]
    fork.write("scenarios/fork.yaml", changed((old, new.replace("ELSEWHERE", str(elsewhere(fork))))))
    out, error = validated(fork, "scenarios/fork.yaml")
    told = r"^scenarios/fork.yaml:\d+ [\w.\[\]]+: '.+' lies outside the project\n  files of a scenario stay inside"
    assert out == "" and re.search(told, error, re.MULTILINE)


@pytest.mark.parametrize("name", ["scenarios/fork.yaml", "scenarios/hardware.yaml"])
def test_a_scenario_or_its_hardware_that_is_a_link_out_of_the_project_is_not_read(fork, monkeypatch, name):
    monkeypatch.chdir(fork.root)
    target = "base.yaml" if name.endswith("fork.yaml") else "hardware.yaml"
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to(elsewhere(fork) / target)
    out, error = validated(fork, "scenarios")
    assert f"'{name}' lies outside the project" in error and out == ""


def test_weights_may_lie_elsewhere_where_the_user_says_so_and_code_may_not(fork, monkeypatch):
    monkeypatch.chdir(fork.root)
    there = elsewhere(fork)
    fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", f"onnx: {there}/model.onnx")).replace("torch}", "onnxruntime}"))
    refused = validated(fork, "scenarios/fork.yaml")[1]
    assert refused.endswith("or say where else they may lie: --allow-outside FOLDER")
    allowed = "scenarios/fork.yaml: fork is valid, 1 trial\n"
    assert validated(fork, "scenarios/fork.yaml", "--allow-outside", str(there))[0] == allowed
    assert validated(fork, "scenarios/fork.yaml", env={"HARNESS_ALLOW_OUTSIDE": str(there)})[0] == allowed
    assert "lies outside" in validated(fork, "scenarios/fork.yaml", "--allow-outside", str(fork.root))[1]
    for new in ("factory: ../../elsewhere/net.py:build", "torch_hub: {name: build, repo: ../../elsewhere}"):
        fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", new)))
        error = validated(fork, "scenarios/fork.yaml", "--allow-outside", str(there))[1]
        assert "is code and lies outside the project\n  --allow-outside is for files that are only read" in error


def test_what_lies_elsewhere_counts_for_the_content_as_what_lies_in_the_project_does(fork, monkeypatch):
    from fakes.projects import TOOLCHAIN

    from harness.core.allowed import Allowed
    from harness.core.plan import Trial
    from harness.engine.content import derive

    there = elsewhere(fork)
    path = fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", f"factory: net.py:build\n  files: [{there}/model.onnx]")))

    def digest():
        file = read_scenario(path, allowed=Allowed((there,)))
        return derive(Trial(file, file.scenario.recipes["fp32"], file.targets[0], 1), TOOLCHAIN).content.source

    before = digest()
    assert digest() == before
    (there / "model.onnx").write_bytes(b"other weights")
    assert digest() != before


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines) + "\n" + GOOD


COSTLY = {
    "a billion laughs": (bomb(), "holds more than 20,000 values with its aliases written out"),
    "an alias of itself": (GOOD + "description: &a [*a]\n", "an alias stands inside what it names"),
    "brackets without end": (GOOD + f"description: {'[' * 5_000}", "is nested too deeply"),
    "two megabytes": (GOOD + f"description: {'x' * 2**21}\n", "is larger than 1 MiB"),
    "an object of Python's": (
        GOOD + "description: !!python/object/apply:os.system [touch ran]\n",
        "the tag '!!python/object/apply:os.system'",
    ),
    "a clause of spaces": (GOOD + f"sla: {{latency_p99: 'at most 5{' ' * 20_000}of{' ' * 20_000}x!'}}\n", "is no clause: it has 40,01"),
    "a promise of spaces": (GOOD + f"sla: {{latency_p99: 'at least 3 times{' ' * 20_000}x'}}\n", "is no clause: it has 20,017"),
    "a number of 5,000 digits": (GOOD + f"seed: {'9' * 5000}\n", "is not a whole number of reasonable length"),
    "an infinite time": (GOOD + "measure: {duration: 1e999 s}\n", "is not a time"),
    "a path of 5,000 letters": (changed(("net.py:build", "a" * 5000 + ".py:build")), "is no path of a file: File name too long"),
    "links in a circle": (changed(("net.py:build", "circle.py:build")), "circle.py' "),
    "code without end": (changed(("net.py:build", "deep.py:build")), "deep.py: is nested too deeply to be looked at"),
}


@pytest.mark.parametrize("what", COSTLY)
def test_a_scenario_made_to_be_costly_is_refused_in_one_sentence(fork, monkeypatch, what):
    monkeypatch.chdir(fork.root)
    Path("scenarios/circle.py").symlink_to("circle.py")
    fork.write("scenarios/deep.py", f"x = {'-' * 200_000}1\n")
    text, told = COSTLY[what]
    path = fork.write("scenarios/fork.yaml", text)
    with pytest.raises(BadInput) as caught:
        read_scenario(path)
    assert told in str(caught.value) and not Path("ran").exists()


def test_no_escape_code_of_a_scenario_reaches_the_terminal(fork):
    fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", 'factory: "a\\e]0;owned\\a\\e[31m.py:build"')))
    fork.write("scenarios/\x1b[2J.yaml", changed(("name: fork", "name: other")))
    for path in ("scenarios/fork.yaml", "scenarios/\x1b[2J.yaml"):
        done = fork.harness("validate", path)
        assert "\x1b" not in done.out + done.err and "\\x1b[" in done.out + done.err


ASKS = "huggingface: {id: org/name, trust_remote_code: true}"


@pytest.mark.parametrize("command", ["run", "gate", "profile"])
def test_code_that_comes_with_a_model_needs_the_word_of_the_command_line_too(fork, monkeypatch, command):
    monkeypatch.chdir(fork.root)
    fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", ASKS)))
    done = CliRunner().invoke(cli.cli, [command, "scenarios/fork.yaml"])
    assert isinstance(done.exception, BadInput) and not Path("reports").exists()
    assert str(done.exception) == (
        "scenarios/fork.yaml:4 model.huggingface.trust_remote_code: asks to run code that comes with the model, and the command line does "
        "not allow it\n  read that code first; then give --trust-remote-code (or set HARNESS_TRUST_REMOTE_CODE=1), or remove this key"
    )


@pytest.mark.parametrize("value", ["yes", "'true'", "1"])
def test_only_true_itself_asks_for_code_that_comes_with_a_model(fork, value):
    path = fork.write("scenarios/fork.yaml", changed(("factory: net.py:build", ASKS.replace("true", value))))
    with pytest.raises(BadInput, match="trust_remote_code"):
        read_scenario(path)


def test_a_misspelt_switch_in_the_environment_allows_nothing(fork, monkeypatch):
    monkeypatch.chdir(fork.root)
    monkeypatch.setenv("HARNESS_TRUST_REMOTE_CODE", "yes")
    assert validated(fork, "scenarios/fork.yaml")[1] == "HARNESS_TRUST_REMOTE_CODE is 'yes'\n  write 1, or unset it"


# Files that others wrote


@pytest.mark.parametrize("trial", ["../../x/y", "a/../../../x", "..", "link/y"])
def test_no_baseline_is_written_outside_of_the_project(tmp_path, trial):
    root = tmp_path / "project"
    (root / "baselines").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root / "baselines" / "link").symlink_to(tmp_path / "elsewhere")
    portable = Portable(Content("0", "0", {}), "s.yaml", "", None, "0", "0", PluginRef(name="fake"), "cpu", (), (), {}, None)
    with pytest.raises(BadInput, match="would lie outside the project"):
        Baselines(root).write(Baseline(BASELINE_SCHEMA, trial, "", "", portable, {}))
    assert list(tmp_path.rglob("*.json")) == []


def test_a_commit_that_a_baseline_names_is_never_an_option_of_git(fork):
    with Worktrees(fork.root) as worktrees, pytest.raises(CannotMeasure, match="is not in this clone"):
        worktrees.at("--batch-command=cat")


def test_a_few_packed_bytes_never_become_gigabytes(tmp_path, monkeypatch):
    text = base64.b64encode(zlib.compress(b"\0" * 2**27, 9)).decode()
    with pytest.raises(CannotMeasure, match="packed values are damaged"):
        unpack(Packed("float32", 2**25, text))
    monkeypatch.setattr(_document, "MOST_BYTES", 2**20)
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 2**20))
    with pytest.raises(BadInput, match="holds more than 1 MiB when it is unpacked"):
        read_bench_file(path)


def test_the_cache_is_made_for_its_user_alone_and_one_that_everyone_may_write_is_told(tmp_path, caplog):
    with Cache(tmp_path / "cache", 2**20) as cache:
        cache.get("ab" * 32, lambda folder: (folder / "a").write_text("a") and None)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0 and caplog.text == ""
    (tmp_path / "cache").chmod(0o777)
    with Cache(tmp_path / "cache", 2**20):
        assert "everyone may write the artifact cache" in caplog.text


# The package itself


@cache
def calls():
    """Every call in the package, with the file that it stands in."""
    return [
        (path.relative_to(plugins.PACKAGE).as_posix(), node)
        for path in sorted(plugins.PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def called(node):
    return ast.unparse(node.func)


def options(node):
    return {word.arg: getattr(word.value, "value", None) for word in node.keywords}


def test_a_pickle_is_opened_in_one_place_and_that_is_our_own_cache():
    loads = [(path, options(node).get("weights_only")) for path, node in calls() if called(node) == "torch.load"]
    assert [one for one in loads if one[1] is not True] == [("formats/torch_module.py", False)]
    arrays = [options(node).get("allow_pickle") for _, node in calls() if called(node) == "np.load"]
    assert arrays and not any(arrays)  # numpy opens none unless it is told to


def test_nothing_in_the_package_makes_code_of_text():
    forbidden = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load"}
    forbidden |= {"shutil.unpack_archive", "joblib.load", "dill.load", "cloudpickle.loads"}
    assert [(path, called(node)) for path, node in calls() if called(node) in forbidden] == []
    assert [path for path, node in calls() if options(node).get("shell")] == []
    unpacked = [(path, options(node).get("filter")) for path, node in calls() if called(node).endswith((".extractall", ".extract"))]
    assert [path for path, kept in unpacked if kept != "data"] == []


IN_A_CONTAINER = ["engine/kubernetes/manifests.py"]
"""What writes down how a server is started in a pod, where its own network is all that it listens to."""


def test_no_server_of_ours_listens_beyond_this_machine_unless_it_is_told_to():
    everywhere = [
        path.relative_to(plugins.PACKAGE).as_posix()
        for path in sorted(plugins.PACKAGE.rglob("*.py"))
        if re.search(r"0\.0\.0\.0|\[::\]", path.read_text(encoding="utf-8"))
    ]
    assert set(everywhere) <= set(IN_A_CONTAINER)
    assert Deployment.__dataclass_fields__["host"].default == "127.0.0.1"


# Workflows


def workflow_steps(path):
    document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    return document, [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: "/".join(path.parts[-3:]))
def test_no_text_of_a_pull_request_is_put_into_a_shell_command(path):
    _, steps = workflow_steps(path)
    assert steps and [step["run"] for step in steps if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: "/".join(path.parts[-3:]))
def test_no_workflow_gives_a_forks_code_a_token_that_writes(path):
    document, steps = workflow_steps(path)
    assert "pull_request_target" not in document["on"]
    assert document["permissions"] in ({}, {"contents": "read"})
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    if "workflow_run" in document["on"]:
        assert [step for step in checkouts if "ref" in step["with"]] == []


def test_the_document_of_security_names_every_switch():
    text = html.unescape((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    for word in ("--trust-remote-code", "HARNESS_TRUST_REMOTE_CODE", "--allow-outside", "HARNESS_ALLOW_OUTSIDE", "HARNESS_CACHE_DIR"):
        assert word in text
