"""SSH signatures of a bundle's statement, made and checked by OpenSSH's own ``ssh-keygen -Y``."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.store.bundles import SIGNATURE, STATEMENT

NAMESPACE = "harness-audit"
PROGRAM = "ssh-keygen"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature is worth: ``holds`` None where nobody was asked to vouch for the key. ``told`` in one sentence."""

    holds: bool | None
    told: str


def check_key(key: Path) -> None:
    """Before anything is measured: the key is there, and so is ssh-keygen. Raises BadInput and CannotMeasure."""
    _program()
    if not key.is_file():
        raise BadInput(
            Problem("--sign: there is no such key", path=key, hint="name a private SSH key, or its .pub with the key in ssh-agent")
        )


def sign(folder: Path, key: Path) -> None:
    """Sign the statement; ssh-keygen asks for a passphrase on the terminal. Raises CannotMeasure with its words where it cannot."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    command = [_program(), "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(folder / STATEMENT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / SIGNATURE).is_file():
        raise CannotMeasure(f"{PROGRAM} did not sign: {_said(done)}", hint="the bundle is there, without a signature")


def check_signature(folder: Path, allowed: Path | None, signer: str | None) -> Signed:
    """Whether the statement is signed, by whom, and whether the file of allowed signers vouches for them.

    Raises BadInput where that file is missing and CannotMeasure without ssh-keygen, where it is needed.
    """
    there = (folder / SIGNATURE).is_file()
    if allowed is None:
        if not there:
            return Signed(None, "not signed")
        if shutil.which(PROGRAM) is None:
            return Signed(None, f"signed, and not checked: {PROGRAM} is not installed")
        done = _ask("check-novalidate", "-n", NAMESPACE, "-s", str(folder / SIGNATURE), folder=folder)
        if done.returncode != 0:
            return Signed(False, f"the signature is not of this statement: {_said(done)}")
        key = re.search(r"with (\S+ key \S+)", done.stdout)
        return Signed(None, f"signed with {key[1] if key else 'a key'}, for which nobody vouches: give --allowed-signers")
    if not allowed.is_file():
        raise BadInput(
            Problem("--allowed-signers: there is no such file", path=allowed, hint="a line is: ada@example.com ssh-ed25519 AAAA...")
        )
    if not there:
        return Signed(False, "not signed, and a signature was asked for")
    _program()
    if signer is None:
        done = _ask("find-principals", "-s", str(folder / SIGNATURE), "-f", str(allowed), folder=folder)
        if done.returncode != 0 or not done.stdout.strip():
            return Signed(False, f"the key of the signature is not in {allowed}")
        signer = done.stdout.split()[0].split(",")[0]
    done = _ask("verify", "-f", str(allowed), "-I", signer, "-n", NAMESPACE, "-s", str(folder / SIGNATURE), folder=folder)
    if done.returncode != 0:
        return Signed(False, f"the signature is not one of {signer} for this statement: {_said(done)}")
    return Signed(True, f"signed by {signer}")


def _ask(verb: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    with (folder / STATEMENT).open("rb") as statement:
        command = [_program(), "-Y", verb, *arguments]
        return subprocess.run(command, stdin=statement, capture_output=True, text=True, check=False)


def _program() -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        raise CannotMeasure(
            f"signatures need {PROGRAM}, which is not installed", hint="it comes with OpenSSH: apt-get install openssh-client"
        )
    return found


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
