"""A program that takes ssh's place on PATH: the command runs on this machine, in a session of its own and without the caller's environment.

What it cannot show is a network. The host's name says what happens: ``nowhere`` is not known, ``old`` has another harness, ``chatty``
greets whoever logs in; all others are this machine. What it was called with stands in ``calls`` beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

OTHER = "harness 0.0.9 (0123456789ab)"


def put_on_path(folder: Path, monkeypatch) -> Path:
    """Make it the ``ssh`` of this process and its children; gives the file of calls."""
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SSH_CALLS", str(folder / "calls"))
    return folder / "calls"


def main() -> int:
    words = sys.argv[1:]
    with Path(os.environ["FAKE_SSH_CALLS"]).open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    _, host, command = words[words.index("--") :]
    if host == "nowhere":
        sys.stderr.write("ssh: Could not resolve hostname nowhere: Name or service not known\r\n")
        return 255
    if host == "old":
        command = f"echo '{json.dumps({'program': OTHER})}'; cat > /dev/null"
    if host == "chatty":
        sys.stdout.write("Welcome to chatty!\n{}\n")
        sys.stdout.flush()
    code = subprocess.run(["sh", "-c", command], env={"PATH": "/usr/bin:/bin"}, start_new_session=True).returncode
    return code if code >= 0 else 255  # as ssh has it for a command that a signal ended


if __name__ == "__main__":
    sys.exit(main())
