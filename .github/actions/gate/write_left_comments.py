"""Writes the comments that a gate on a pull request from a fork has left, in a workflow that runs on ``workflow_run``.

Everything in the artifact was made by the pull request's own code: it is read in memory, bounded, never run, and says only which of the
pull requests that the API names for the run's head commit is meant. Of its text nothing can mention, link, show pictures or pass for
another comment.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import sys
import urllib.parse
import zipfile
import zlib
from pathlib import Path
from typing import Any

from comments_api import Api, Comment, Refused, Unreachable, put
from workflow_commands import tell
from write_comment import LEFT

PREFIX = "harness-comment-"
MOST_ARTIFACTS = 10
MOST_BYTES = 2**20
MOST_CHARACTERS = 62_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
ORIGIN = "<sub>Made by the code of a pull request from outside, and shown without being checked.</sub>"
RIGHTS = "The job needs 'actions: read' and 'pull-requests: write'."


class Untrusted(Exception):
    """What was left is not what a gate leaves, or is for a pull request that it is not from."""


def main() -> int:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    api, repository = Api.of_environment(), os.environ["GITHUB_REPOSITORY"]
    if "workflow_run" not in event:
        tell("error", "run this action in a workflow that begins with 'on: workflow_run'", title="no workflow run")
        return 2
    run = event["workflow_run"]
    try:
        left = [one for one in api.pages(f"/repos/{repository}/actions/runs/{int(run['id'])}/artifacts", "artifacts") if _is_left(one)]
        numbers = _pull_requests(api, repository, run) if left else set()
    except (Refused, Unreachable) as error:
        tell("error", f"{error}. {RIGHTS}", title="no comment")
        return 1
    if not left:
        sys.stdout.write("No comment was left: the gate wrote its own, or there was none.\n")
    elif not numbers:
        sys.stdout.write(f"No open pull request has {run['head_sha']} as its head now: a newer run tells of it.\n")
        return 0
    wrong = [_write(api, repository, one, numbers) for one in left[:MOST_ARTIFACTS]]
    return 1 if any(wrong) else 0


def _is_left(artifact: Any) -> bool:
    return str(artifact["name"]).startswith(PREFIX) and not artifact["expired"]


def _pull_requests(api: Api, repository: str, run: Any) -> set[int]:
    """The open pull requests into this repository whose head is now the very commit that was gated, by the API's word alone.

    The event itself names none where the branch is in a fork.
    """
    fork = run["head_repository"]
    if run["event"] != "pull_request" or fork is None:
        return set()
    head = urllib.parse.quote(f"{fork['owner']['login']}:{run['head_branch']}", safe="")
    return {
        int(one["number"])
        for one in api.pages(f"/repos/{repository}/pulls?state=open&head={head}")
        if one["head"]["sha"] == run["head_sha"]
        and (one["head"]["repo"] or {}).get("full_name") == fork["full_name"]
        and one["base"]["repo"]["full_name"] == repository
    }


def _write(api: Api, repository: str, artifact: Any, numbers: set[int]) -> bool:
    """Write one comment; True where that could not be done."""
    try:
        number, comment = _read(api.bytes_of(f"/repos/{repository}/actions/artifacts/{int(artifact['id'])}/zip", MOST_BYTES))
        if number not in numbers:
            raise Untrusted(f"it is for pull request {number}, and comes from {', '.join(map(str, sorted(numbers)))}")
        told = put(api, repository, number, comment)
        sys.stdout.write(f"The comment: {told}\n" if told else "All is well: there is nothing to comment on.\n")
    except Untrusted as error:
        tell("error", f"What the run left is not written: {error}", title="comment refused")
    except (Refused, Unreachable) as error:
        tell("error", f"{error}. {RIGHTS}", title="no comment")
    else:
        return False
    return True


def _read(data: bytes) -> tuple[int, Comment]:
    """Pull request and comment of an artifact. Raises Untrusted where it is anything else than a gate leaves."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(LEFT) as file:
            text = file.read(MOST_BYTES + 1)  # a small archive can hold a file of any size
        if len(text) > MOST_BYTES:
            raise Untrusted(f"{LEFT} holds more than {MOST_BYTES:,} bytes")
        left = json.loads(text)
        number, gate, body, first = left["number"], left["gate"], left["body"], left["first"]
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise Untrusted(f"it cannot be read: {error}") from error
    if type(number) is not int or not isinstance(gate, str) or not isinstance(body, str) or not isinstance(first, bool):
        raise Untrusted("its parts are of other types")
    if not NAME.fullmatch(gate):
        raise Untrusted("the gate's name is none")
    author = os.environ["GATE_AUTHOR"]
    return number, Comment(gate, f"{ORIGIN}\n\n{inert(body[:MOST_CHARACTERS])}", author, first)  # first: what follows may fold all after it


ACTING = re.compile(
    r"<(?!/?(?:details|summary|code|sub)>)"  # HTML that no report is made of: pictures, links, hidden marks
    r"|&(?!(?:amp|lt|gt|nbsp|#(?:35|36|42|9[12356]|124|126));)"  # characters in disguise, but those that a report writes so
    r"|@(?=\w)|(?:(?<!&)#|&#35;|\bGH-)(?=\d)"  # mentions and references
    r"|:(?=//)|\bwww(?=\.)|\](?=[(:\[])",  # addresses and links
    re.IGNORECASE,
)


def inert(markdown: str) -> str:
    """The text with nothing in it that acts, by a space of no width: a report looks as before, of anything else words are left."""
    text = "".join(character for character in markdown if character.isprintable() or character in "\n\t")
    return ACTING.sub(lambda match: f"{match[0]}\u200b", text)[:MOST_CHARACTERS]


if __name__ == "__main__":
    sys.exit(main())
