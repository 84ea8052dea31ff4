"""GitHub in little: its comments API on a loopback port, and a runner that carries out the steps of a composite action."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ruamel.yaml import YAML

BOT = "github-actions[bot]"
OWN = "user/model"
TOKEN = "ghs_of_this_job"


class FakeGithub:
    """What the repository holds, and every request that came: method, path, and whether the token was with it."""

    def __init__(self) -> None:
        self.comments: dict[int, list[dict]] = defaultdict(list)
        self.pulls: list[dict] = []
        self.artifacts: dict[str, bytes] = {}
        self.read_only = False
        self.page = 100
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, str, bool]] = []
        self.url = ""
        self._ids = iter(range(1, 10_000))

    def add_comment(self, number: int, body: str, login: str | None = BOT) -> dict:
        one = next(self._ids)
        user = None if login is None else {"login": login}
        made = {"id": one, "body": body, "user": user, "html_url": f"https://github.example/{OWN}/pull/{number}#{one}"}
        self.comments[number].append(made)
        return made

    def add_pull(self, number: int, sha: str, fork: str | None, branch: str = "change", into: str = OWN, state: str = "open") -> None:
        repo = None if fork is None else {"full_name": fork}
        head = {"sha": sha, "ref": branch, "repo": repo, "label": f"{(fork or OWN).split('/')[0]}:{branch}"}
        self.pulls.append({"number": number, "state": state, "head": head, "base": {"repo": {"full_name": into}}})

    def answer(self, method: str, path: str, payload: dict) -> tuple[int, object]:
        """Status and body; a redirect's body is where it leads."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        route = urlsplit(path).path.removeprefix(f"/repos/{OWN}/")
        if match := re.fullmatch(r"issues/(\d+)/comments", route):
            if method == "GET":
                return 200, self.comments[int(match[1])]
            return (403, "Resource not accessible") if self.read_only else (201, self.add_comment(int(match[1]), payload["body"]))
        if match := re.fullmatch(r"issues/comments/(\d+)", route):
            if self.read_only:
                return 403, "Resource not accessible"
            (mine,) = [one for all_ in self.comments.values() for one in all_ if one["id"] == int(match[1])]
            mine["body"] = payload["body"]
            return 200, mine
        if route == "pulls":
            return 200, [one for one in self.pulls if one["state"] == asked["state"] and one["head"]["label"] == asked["head"]]
        if re.fullmatch(r"actions/runs/\d+/artifacts", route):
            return 200, {"artifacts": [{"id": place, "name": name, "expired": False} for place, name in enumerate(self.artifacts)]}
        if match := re.fullmatch(r"actions/artifacts/(\d+)/zip", route):
            return 302, f"{self.url.replace('127.0.0.1', 'localhost')}/storage/{match[1]}"
        if match := re.fullmatch(r"/storage/(\d+)", route):
            return 200, list(self.artifacts.values())[int(match[1])]
        return 404, "Not Found"


@contextmanager
def fake_github() -> Iterator[FakeGithub]:
    """The API, served on a loopback port until the block is left."""
    github = FakeGithub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"]))) if self.headers["Content-Length"] else {}
            github.requests.append((self.command, self.path, self.headers["Authorization"] == f"Bearer {TOKEN}"))
            status, headers = github.answers.pop(0) if github.answers else (None, {})
            status, body = (status, "as it was told to") if status else github.answer(self.command, self.path, payload)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status == 302:
                self.send_header("Location", body)
            if isinstance(body, list):
                body = self.page_of(body)
            data = body if isinstance(body, bytes) else json.dumps({"message": body} if isinstance(body, str) else body).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def page_of(self, items: list) -> list:
            asked = parse_qs(urlsplit(self.path).query)
            size, page = min(github.page, int(asked.get("per_page", ["30"])[0])), int(asked.get("page", ["1"])[0])
            if len(items) > size * page:
                rest = "&".join(f"{name}={values[0]}" for name, values in asked.items() if name != "page")
                here = f"{github.url}{urlsplit(self.path).path}?{rest}"
                self.send_header("Link", f'<{here}&page={page + 1}>; rel="next", <{here}&page=9>; rel="last"')
            return items[size * (page - 1) : size * page]

        do_POST = do_PATCH = do_GET

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        github.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield github
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Job:
    """What a job left. ``commands`` are the annotations that the runner carried out; ``used`` the other actions with their inputs."""

    code: int = 0
    log: str = ""
    commands: list[str] = field(default_factory=list)
    summary: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


class Runner:
    """Carries out a composite action as GitHub's runner does: inputs, conditions, outputs, workflow commands, artifacts."""

    def __init__(self, workspace: Path, temp: Path, environment: Mapping[str, str], github: FakeGithub) -> None:
        self._workspace, self._temp, self._github = workspace, temp, github
        self._environment = {name: value for name, value in environment.items() if not name.startswith(("GITHUB_", "RUNNER_", "GATE_"))}

    def job(self, action: Path, event: dict, **inputs: str) -> Job:
        """Run the action's steps one after the other; names of inputs are written with ``_`` for ``-``."""
        job, spec = Job(), YAML(typ="safe", pure=True).load((action / "action.yml").read_text())
        folder = Path(self._temp / f"job-{len(list(self._temp.glob('job-*')))}")
        folder.mkdir(parents=True)
        (folder / "event.json").write_text(json.dumps(event))
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert set(given) <= set(spec["inputs"]), f"unknown inputs: {set(given) - set(spec['inputs'])}"
        contexts = {"github": {"token": TOKEN}, "runner": {"os": "Linux", "arch": "X64"}, "steps": job.steps}
        defaults = {name: _filled(str(one.get("default", "")), contexts) for name, one in spec["inputs"].items()}
        contexts["inputs"] = {**defaults, **given}
        environment = {
            **self._environment,
            "PATH": f"{Path(sys.executable).parent}:{self._environment['PATH']}",
            "GITHUB_ACTION_PATH": str(action),
            "GITHUB_API_URL": self._github.url,
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_REPOSITORY": OWN,
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_WORKSPACE": str(self._workspace),
            "RUNNER_TEMP": str(folder),
        }
        for step in spec["runs"]["steps"]:
            condition = str(step.get("if", "true"))
            if (job.code and "cancelled()" not in condition) or not _holds(condition, contexts):
                continue
            if "uses" in step:
                self._use(step["uses"], {name: _filled(str(value), contexts) for name, value in step["with"].items()}, job)
                continue
            (folder / "output").write_text("")
            more = {name: _filled(value, contexts) for name, value in step.get("env", {}).items()}
            here = self._workspace / _filled(step.get("working-directory", "."), contexts)
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            ended = subprocess.run(
                command, cwd=here, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False
            )
            job.log += ended.stdout.decode()
            job.code = job.code or ended.returncode
            told = dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())
            job.steps[step.get("id", step["name"])] = told
        job.commands = _carried_out(job.log)
        summary = folder / "summary.md"
        job.summary = summary.read_text() if summary.exists() else ""
        job.outputs = {name: _filled(one["value"], contexts) for name, one in spec.get("outputs", {}).items()}
        return job

    def _use(self, action: str, given: dict[str, str], job: Job) -> None:
        name = action.partition("@")[0]
        job.used[name] = given
        if name == "actions/upload-artifact":
            job.artifacts[given["name"]] = zipped(Path(given["path"]))


def zipped(path: Path) -> bytes:
    """A file or a folder as upload-artifact packs it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
            archive.write(file, file.name if path.is_file() else file.relative_to(path))
    return held.getvalue()


def _filled(text: str, contexts: Mapping[str, Mapping]) -> str:
    return re.sub(r"\$\{\{(.+?)\}\}", lambda match: str(_look(match[1].strip(), contexts)), text)


def _holds(condition: str, contexts: Mapping[str, Mapping]) -> bool:
    """An ``if:`` of comparisons with text, joined by '&&'."""
    parts = condition.removeprefix("${{").removesuffix("}}").split("&&")
    return all(_is_true(part.strip(), contexts) for part in parts)


def _is_true(part: str, contexts: Mapping[str, Mapping]) -> bool:
    if part in ("true", "!cancelled()"):
        return True
    name, sign, text = part.split()
    return (_look(name, contexts) == text.strip("'")) is (sign == "==")


def _look(name: str, contexts: Mapping[str, Mapping]) -> str:
    """``inputs.paths`` or ``steps.gate.outputs.verdict``; empty where a step has not run, as on GitHub."""
    family, *keys = name.split(".")
    if family == "steps":
        step, outputs, key = keys
        assert outputs == "outputs"
        return contexts["steps"].get(step, {}).get(key, "")
    return contexts[family][keys[0]]


def _carried_out(log: str) -> list[str]:
    """The annotations in a log, without those in a region where commands are stopped."""
    found, stopped = [], None
    for line in log.splitlines():
        if stopped is not None:
            stopped = None if line == f"::{stopped}::" else stopped
        elif line.startswith("::stop-commands::"):
            stopped = line.removeprefix("::stop-commands::")
        elif re.match(r"::(error|warning|notice)[ :]", line):
            found.append(line)
    return found
