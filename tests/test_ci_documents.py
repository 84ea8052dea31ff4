"""What CI servers read, in the repository and in docs/ci.md: valid by its published schemas, and the same in both places."""

import re
import subprocess
import sys

import pytest
from fakes.gated_repository import GATE, ROOT
from ruamel.yaml import YAML

STARTER = ROOT / "harness" / "engine" / "starter" / ".github" / "workflows"


def blocks(language):
    text = (ROOT / "docs" / "ci.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-actions", [GATE / "action.yml", GATE / "comment" / "action.yml"]),
        ("vendor.github-workflows", [*(ROOT / ".github" / "workflows").glob("*.yml"), *STARTER.glob("*.yml")]),
        ("vendor.github-workflows", "on:"),
        ("vendor.gitlab-ci", "stage:"),
    ],
    ids=["actions", "workflows", "workflows in the documents", "GitLab CI in the documents"],
)
def test_what_ci_reads_is_valid_against_its_published_schema(tmp_path, schema, files):
    pytest.importorskip("check_jsonschema")
    if isinstance(files, str):
        texts = [text for text in blocks("yaml") if re.search(rf"^ *{files}", text, flags=re.MULTILINE)]
        files = [tmp_path / f"{number}.yml" for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def starter(name):
    return (STARTER / name).read_text()


def test_the_document_shows_the_workflows_that_init_writes():
    shown = blocks("yaml")
    assert starter("performance-gate.yml") in shown and starter("performance-comment.yml") in shown


def test_the_second_workflow_runs_after_the_first_by_its_name():
    own = [(ROOT / ".github" / "workflows" / name).read_text() for name in ("gate.yml", "gate-comment.yml")]
    for gate, comment in (own, [starter("performance-gate.yml"), starter("performance-comment.yml")]):
        (name,) = re.findall(r"^name: (.+)$", gate, flags=re.MULTILINE)
        assert f"workflows: [{name}]" in comment


def test_the_document_tells_every_input_of_the_action():

    text = (ROOT / "docs" / "ci.md").read_text()
    inputs = YAML(typ="safe", pure=True).load((GATE / "action.yml").read_text())["inputs"]
    assert [name for name in inputs if f"| `{name}` |" not in text] == []


def test_no_input_is_written_into_a_script():
    for action in (GATE, GATE / "comment"):
        text = (action / "action.yml").read_text()
        assert [run for run in re.findall(r"run: (.*(?:\n {8}.*)*)", text) if "${{" in run] == []


def test_the_plain_shell_of_the_document_shows_the_report_and_ends_with_the_gates_own_code(tmp_path):
    (script,) = [text for text in blocks("sh") if "harness gate" in text]
    shims = {"harness": 'mkdir -p "$4/latest" && echo "report of $2" > "$4/latest/report.md"; exit 3', "pip": 'echo "pip $*"'}
    for name, text in shims.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HARNESS": "git+https://host/harness.git"}
    ended = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "pip install harness[torch,onnx] @ git+https://host/harness.git\nreport of scenarios\n")


def test_the_workflows_that_init_writes_may_read_and_comment_and_have_the_history():
    gate, comment = (YAML(typ="safe", pure=True).load(starter(name)) for name in ("performance-gate.yml", "performance-comment.yml"))
    job = gate["jobs"]["gate"]
    assert gate["permissions"] == {"contents": "read"} and job["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert set(gate["on"]) == {"pull_request", "push"}  # never pull_request_target: it would give a fork's code the secrets
    assert job["steps"][0]["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert job["steps"][-1]["uses"].partition("@")[0] == "OWNER/harness/.github/actions/gate"
    second = comment["jobs"]["comment"]
    assert comment["permissions"] == {} and second["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert [step["uses"].partition("@")[0] for step in second["steps"]] == ["OWNER/harness/.github/actions/gate/comment"]
