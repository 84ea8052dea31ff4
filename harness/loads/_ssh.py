"""Generators on other machines, reached by ssh as the user's own configuration says: no port is opened, and nothing is asked of anybody."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from harness.loads._load_shapes import Part
from harness.loads._orders import ELSEWHERE

_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
OPTIONS = (
    "-T",
    "-x",
    "-oBatchMode=yes",  # never a question: no password, no unknown host key that somebody accepts in passing
    "-oConnectTimeout=10",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
    "-oClearAllForwardings=yes",
    "-oForwardAgent=no",
)
VARIABLES = {
    # select() waits to the microsecond; epoll, libev's choice, to the millisecond: sends would be late by half of one.
    "GEVENT_BACKEND": "select",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Of a generator process, wherever it runs."""
MODULE = "harness.loads._locust_generator"
SSH_FAILED = 255
NOT_THERE = (126, 127)


def _a_host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError(f"'{name}' is no host for ssh: write a name or an address, such as 'edge-1' or 'me@10.0.0.7'")
    return name


def _an_interpreter(path: str) -> str:
    if not path or path.startswith("-") or not path.isprintable():
        raise ValueError(f"'{path}' is not the path of an interpreter")
    return path


def an_address(host: str) -> str:
    """Where a server may listen so that others reach it: one address or name of this machine, of no special meaning. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", host) or set(host) <= set("0."):
        raise ValueError(f"'{host}' is not one address of this machine: write the IPv4 address or the name by which generators reach it")
    return host


class GeneratorHost(Part):
    """Another machine that sends: ``host`` as ssh knows it, and the interpreter there that has harness."""

    host: Annotated[str, AfterValidator(_a_host)] = Field(description="As ssh knows it: 'edge-1', 'me@10.0.0.7'.")
    python: Annotated[str, AfterValidator(_an_interpreter)] = Field("python3", description="The interpreter there that has harness.")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: object) -> object:
        return {"host": given} if isinstance(given, str) else given

    def command(self) -> list[str]:
        """What starts a generator there. ssh hands one text to a shell: each word of it is quoted."""
        variables = [f"{name}={value}" for name, value in VARIABLES.items()]
        words = ["exec", "env", *variables, self.python, "-P", "-m", MODULE, ELSEWHERE]
        return ["ssh", *OPTIONS, "--", self.host, shlex.join(words)]

    def why_ended(self, code: int, said: str, *, met: bool) -> tuple[str, str]:
        """What an exit code means, and what to do. ``said`` is the end of what came on stderr; ``met`` is whether a generator answered."""
        last = (said.strip().splitlines() or ["it said nothing"])[-1].strip()
        if met:
            how = "the connection to it ended" if code == SSH_FAILED else f"signal {-code}" if code < 0 else f"exit code {code}"
            return f"the load generator on '{self.host}' ended before its time ({how})", f"it said: {last}"
        if code == SSH_FAILED:
            told = f"'ssh {self.host}' must work without a question: a key, and the host in known_hosts"
            return f"ssh does not get to '{self.host}': {last}", told
        if code in NOT_THERE:
            hint = f"say which interpreter has harness: 'generators: [{{host: {self.host}, python: /opt/harness/bin/python}}]'"
            return f"'{self.python}' cannot be run on '{self.host}': {last}", hint
        hint = f"install the same harness with its extra 'load' for {self.python} on {self.host}"
        return f"no load generator could be started on '{self.host}' (exit code {code}): {last}", hint
