"""``harness serve`` from outside: what it prints, that its example works, and how it ends."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from harness.core.errors import ExitCode

SCENARIO = """\
version: 1
name: tiny
model: {fake: {latency_us: 50}}
data: {random: {x: "float32[4]"}, samples: 8}
recipes:
  plain: {runtime: fake}
  batched: {runtime: fake, server: {embedded: {max_batch_size: 4, max_queue_delay: 2 ms, drain_timeout: 5 s}}}
"""
LONG_S = 60


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return tmp_path


@contextlib.contextmanager
def started(folder, *words):
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "serve", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HARNESS_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder / "tmp")},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(folder, *words):
    (folder / "tmp").mkdir(exist_ok=True)
    with started(folder, *words) as process:
        out, err = process.communicate(timeout=LONG_S)
    return process.returncode, out, err


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop_and_its_example_works(folder, number):
    (folder / "tmp").mkdir()
    with started(folder, "tiny.yaml", "--recipe", "batched", "--port", "0") as process:
        told, example = process.stdout.readline(), process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", told)[0]
        assert told == f"tiny/batched-cpu-b1 is served by 'embedded' as model 'tiny' at {url}\n"
        answer = subprocess.run(shlex.split(example), capture_output=True, text=True, timeout=LONG_S, check=True).stdout
        assert answer.startswith('{"model_name":"tiny","model_version":"1","outputs":[{"name":"output","shape":[1,10],"datatype":"FP32"')
        with urllib.request.urlopen(f"{url}/v2/models/tiny/config") as config:
            assert b'"max_queue_delay_microseconds": 2000' in config.read()
        process.send_signal(number)
        _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 0
    assert err.endswith("stopping; answered 1 requests in 1 batches, 0 failed\n")
    assert list((folder / "tmp").iterdir()) == [], "nothing is left"


def test_it_is_told_when_its_server_dies(folder):
    (folder / "tmp").mkdir()
    with started(folder, "tiny.yaml", "--recipe", "plain", "--port", "0") as process:
        process.stdout.readline()
        (server,) = (int(line) for line in subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split())
        os.kill(server, signal.SIGKILL)
        _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == ExitCode.NOT_DECIDED and "error: the server was ended by SIGKILL" in err


REFUSED = [
    (("tiny.yaml",), 2, "error: tiny.yaml: which recipe? plain, batched\n  name one with --recipe\n"),
    (("tiny.yaml", "--recipe", "plan"), 2, "there is no recipe 'plan'\n  did you mean 'plain'? the scenario has plain, batched\n"),
    (("tiny.yaml", "--recipe", "plain", "--target", "gpu"), 2, "there is no hardware target 'gpu'"),
    (("none.yaml",), 2, "none.yaml"),
    (("tiny.yaml", "--recipe", "plain", "--set", "recipes.plain.server.embedded.max_batch=4"), 2, "max_batch"),
    (("tiny.yaml", "--recipe", "plain", "--port", "70000"), 2, "70000"),
]


@pytest.mark.parametrize(("words", "code", "said"), REFUSED, ids=[" ".join(words[1:]) or words[0] for words, _, _ in REFUSED])
def test_what_cannot_be_served_is_told(folder, words, code, said):
    returned, out, err = ended(folder, *words)
    assert (returned, out, said in err) == (code, "", True), err


def test_a_port_that_is_taken_is_told(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = ended(folder, "tiny.yaml", "--recipe", "plain", "--port", str(taken.getsockname()[1]))
    assert code == 3 and "Address already in use" in err


def test_stopped_while_it_builds_it_ends_at_once_and_leaves_nothing(folder):
    (folder / "tmp").mkdir()
    slow = SCENARIO.replace("{random: {x", "{evaluation: data.py:slow}  # {x").partition("recipes:")
    (folder / "data.py").write_text(
        "import pathlib, time\n\n\ndef slow():\n    pathlib.Path(__file__).with_name('begun').touch()\n    time.sleep(600)\n"
    )
    (folder / "slow.yaml").write_text(f"{slow[0]}recipes: {{plain: {{runtime: fake}}}}\n")
    with started(folder, "slow.yaml") as process:
        end = time.monotonic() + LONG_S
        while not (folder / "begun").exists():
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.terminate()
        process.communicate(timeout=LONG_S)
    assert process.returncode == ExitCode.INTERRUPTED
    assert list((folder / "tmp").iterdir()) == []
