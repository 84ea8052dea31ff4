"""Headers that a scenario adds to each request. A secret stands in an environment variable, and the scenario, its records and its digests
hold the variable's name: ``Authorization: "Bearer ${env:TOKEN}"``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from harness.core.errors import BadInput, Problem

KEY = "model.endpoint.headers"
_VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = ("host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "inference-header-content-length")
_SECRET = re.compile(r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE)


def wrong_with(headers: Mapping[str, str]) -> str | None:
    """What is wrong with headers as a scenario writes them, with what to write instead; None where nothing is. Asks no environment."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            return f"'{name}' is not the name of a header"
        if name.lower() in _OURS:
            return f"'{name}' is set by the request itself"
        rest = _VARIABLE.sub("", value)
        if not _VALUE.fullmatch(rest):
            return f"the value of '{name}' holds a character that no header has"
        if "${" in rest:
            return f"the value of '{name}' names a variable in another way than '${{env:NAME}}'"
        if _SECRET.search(name) and rest == value:
            return f"'{name}' looks like a secret: write '{name}: ${{env:NAME}}' and put it into that environment variable"
    return None


def filled(headers: Iterable[tuple[str, str]], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The headers with the variables' values in place. Raises BadInput for a variable that is not set; no message tells a value."""
    found = {}
    for name, value in headers:
        found[name] = _VARIABLE.sub(lambda match, name=name: _value_of(match[1], name, environment), value)  # type: ignore[misc]
        if not _VALUE.fullmatch(found[name]):
            told = f"what the environment gives for the header '{name}' holds a line break or another character that no header has"
            raise BadInput(Problem(told, key=KEY))
    return found


def secrets(headers: Iterable[tuple[str, str]], environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The values that headers take from the environment: what no text that is kept may hold."""
    names = {name for _, value in headers for name in _VARIABLE.findall(value)}
    return tuple(sorted((environment[name] for name in names if environment.get(name)), key=len, reverse=True))


def _value_of(variable: str, header: str, environment: Mapping[str, str]) -> str:
    value = environment.get(variable, "").strip()
    if not value:
        told = f"the header '{header}' takes its value from the environment variable {variable}, which is not set"
        raise BadInput(Problem(told, key=KEY, hint=f"set {variable} for this command; on a node of a fleet, where the node is started"))
    return value
