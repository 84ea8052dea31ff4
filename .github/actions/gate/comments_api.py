"""The comments of a pull request over GitHub's REST API: one for each gate, found by a hidden mark, changed and never repeated."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

MOST_CHARACTERS = 65_000
"""GitHub refuses a comment of more than 65,536."""
MOST_BYTES = 8 * 2**20
MOST_PAGES = 50
TIMEOUT_S = 30


class Refused(Exception):
    """The token has not the right."""


class Unreachable(Exception):
    """The API answered with an error, with something else than was asked for, or not at all. ``passing``: a later try may succeed."""

    def __init__(self, message: str, *, passing: bool) -> None:
        self.passing = passing
        super().__init__(message)


@dataclass(frozen=True)
class Api:
    """``url`` is GITHUB_API_URL. The token is sent there and nowhere else, also where an answer leads to another host."""

    url: str
    token: str

    @classmethod
    def of_environment(cls) -> Api:
        return cls(os.environ["GITHUB_API_URL"].rstrip("/"), os.environ["GITHUB_TOKEN"])

    def get(self, path: str) -> Any:
        return _read(self._send("GET", f"{self.url}{path}")[0])

    def pages(self, path: str, key: str | None = None) -> Iterator[Any]:
        """Every item of a list, page by page; ``key`` where the list stands under a name."""
        url: str | None = f"{self.url}{path}{'&' if '?' in path else '?'}per_page=100"
        for _ in range(MOST_PAGES):
            if url is None:
                return
            data, link = self._send("GET", url)
            page = _read(data)
            yield from page if key is None else page[key]
            following = re.search(r'<([^>]+)>;\s*rel="next"', link)
            url = following[1] if following and following[1].startswith(f"{self.url}/") else None

    def bytes_of(self, path: str, most: int) -> bytes:
        """A download, ``most`` bytes at most."""
        return self._send("GET", f"{self.url}{path}", most=most)[0]

    def post(self, path: str, payload: object) -> Any:
        return _read(self._send("POST", f"{self.url}{path}", payload)[0])

    def patch(self, path: str, payload: object) -> Any:
        return _read(self._send("PATCH", f"{self.url}{path}", payload)[0])

    def _send(self, method: str, url: str, payload: object = None, most: int = MOST_BYTES) -> tuple[bytes, str]:
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(url, data, method=method)
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("User-Agent", "harness-gate")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                found = answer.read(most + 1)
                if len(found) > most:
                    raise Unreachable(f"{method} {url}: more than {most:,} bytes", passing=False)
                return found, answer.headers.get("Link") or ""
        except urllib.error.HTTPError as error:
            with error:
                raise _meant(method, url, error) from error
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{method} {url}: {error}", passing=True) from error


def _meant(method: str, url: str, error: urllib.error.HTTPError) -> Exception:
    """A refusal for want of rights is told apart from a limit on requests, which has the same number."""
    limited = error.code == 429 or "Retry-After" in error.headers or error.headers.get("X-RateLimit-Remaining") == "0"
    if error.code in (403, 404) and not limited:
        return Refused(f"{method} {url}: {error.code} {error.reason}")
    return Unreachable(f"{method} {url}: {error.code} {error.reason}", passing=limited or error.code >= 500)


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Unreachable(f"an answer is not JSON: {data[:80]!r}", passing=False) from error


@dataclass(frozen=True)
class Comment:
    """What one gate has to tell. ``first`` is False where a comment is changed but none is begun."""

    gate: str
    body: str
    author: str
    first: bool = True

    @property
    def mark(self) -> str:
        return f"<!-- harness gate: {self.gate} -->"

    @property
    def text(self) -> str:
        whole = f"{self.mark}\n{self.body}"
        return whole if len(whole) <= MOST_CHARACTERS else f"{whole[: MOST_CHARACTERS - 1]}…"


def put(api: Api, repository: str, number: int, comment: Comment, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Change the gate's comment, or write it where there is none; its address, None where nothing was written.

    Each try looks for the comment anew: an answer that was lost may have been a success. Raises Refused where the token may only read.
    """
    for pause in (2, 10, None):
        try:
            return _put(api, f"/repos/{repository}/issues", number, comment)
        except Unreachable as error:
            if pause is None or not error.passing:
                raise
            sleep(pause)
    raise AssertionError("the last try returns or raises")


def _put(api: Api, issues: str, number: int, comment: Comment) -> str | None:
    theirs = api.pages(f"{issues}/{number}/comments")
    mine = next((one for one in theirs if _author(one) == comment.author and str(one["body"]).startswith(comment.mark)), None)
    if mine is None:
        return str(api.post(f"{issues}/{number}/comments", {"body": comment.text})["html_url"]) if comment.first else None
    if mine["body"] != comment.text:
        api.patch(f"{issues}/comments/{mine['id']}", {"body": comment.text})
    return str(mine["html_url"])


def _author(comment: Any) -> str | None:
    """None where the account is gone."""
    return None if comment["user"] is None else str(comment["user"]["login"])
