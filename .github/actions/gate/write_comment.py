"""Writes the gate's comment on the pull request of this job; where the token may only read, leaves it to another workflow.

Never makes the job red: the verdict stands in the gate's own exit code.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from comments_api import Api, Comment, Refused, Unreachable, put
from workflow_commands import set_output, tell

LEFT = "comment.json"


def main() -> int:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    when, code, verdict = os.environ["GATE_COMMENT"], os.environ["GATE_EXIT_CODE"], os.environ["GATE_VERDICT"]
    if when not in ("always", "needed"):
        tell("error", f"comment: '{when}' is none of 'always', 'needed' and 'never'", title="input of the action")
        return 2
    if "pull_request" not in event:
        sys.stdout.write("This is no pull request: there is nothing to comment on.\n")
        return 0
    number = int(event["pull_request"]["number"])
    body = Path(os.environ["GATE_BODY"]).read_text(encoding="utf-8")
    first = when == "always" or code != "0" or verdict != "PASS"
    comment = Comment(os.environ["GATE_NAME"], body, os.environ["GATE_AUTHOR"], first)
    try:
        told = put(Api.of_environment(), os.environ["GITHUB_REPOSITORY"], number, comment)
        sys.stdout.write(f"The comment: {told}\n" if told else "All is well: there is nothing to comment on.\n")
    except Refused as error:
        sys.stdout.write(f"{error}\n")
        _leave(number, comment)
    except Unreachable as error:
        tell("warning", f"The comment could not be written: {error}. The report is in the job's summary.", title="no comment")
    return 0


def _leave(number: int, comment: Comment) -> None:
    """A file for the workflow that may write; it takes nothing in it on trust."""
    folder = Path(tempfile.mkdtemp(prefix="comment-", dir=os.environ["RUNNER_TEMP"]))
    left = {"number": number, "gate": comment.gate, "body": comment.body, "first": comment.first}
    (folder / LEFT).write_text(json.dumps(left), encoding="utf-8")
    set_output("left", folder / LEFT)
    told = "This token may not write comments, as on every pull request from a fork: the comment is left to the workflow that may."
    tell("notice", f"{told} On a branch of this repository, give the job 'pull-requests: write'.", title="comment left")


if __name__ == "__main__":
    sys.exit(main())
