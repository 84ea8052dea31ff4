"""The in-toto statement of a bundle (in-toto attestation framework, Statement v1): its files by digest, and what is claimed of them.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md has the fields; docs/audit.md documents the predicate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.bundles import STATEMENT
from harness.store.files import pretty_json, write_atomically

if TYPE_CHECKING:
    from harness.core.audit import Audit

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:x-harness:sla-audit:v1"
"""Documented in docs/audit.md. A name, not an address."""


def statement_of(audit: Audit, digests: Mapping[str, str]) -> dict[str, object]:
    """The statement as JSON values; ``digests`` by path."""
    return {
        "_type": TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "release": audit.release,
            "verdict": str(audit.verdict),
            "waived": audit.waived,
            "headline": audit.headline,
            "auditedAt": audit.audited_at,
            "source": {"project": audit.project, "gitCommit": audit.commit, "dirty": audit.dirty},
            "run": audit.run,
            "programVersion": audit.program_version,
            "clauses": [{"clause": clause.clause, "trial": clause.trial, "state": str(clause.state)} for clause in audit.clauses],
        },
    }


def write_statement(folder: Path, audit: Audit, digests: Mapping[str, str]) -> None:
    write_atomically(folder / STATEMENT, pretty_json(statement_of(audit, digests)))


def check_statement(folder: Path, audit: Audit, digests: Mapping[str, str]) -> list[str]:
    """What the statement tells otherwise than the bundle, a sentence each."""
    try:
        told = json.loads((folder / STATEMENT).read_bytes())
        subjects = {item["name"]: item["digest"]["sha256"] for item in told["subject"]}
        kind, predicate_type, predicate = told["_type"], told["predicateType"], told["predicate"]
    except FileNotFoundError:
        return [f"{STATEMENT}: missing"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{STATEMENT}: no in-toto statement ({type(error).__name__}: {error})"]
    wanted = statement_of(audit, digests)
    wrong = []
    if (kind, predicate_type) != (TYPE, PREDICATE_TYPE):
        wrong.append(f"{STATEMENT}: is a {kind} with a predicate {predicate_type}, not a {TYPE} with {PREDICATE_TYPE}")
    wrong += [f"{STATEMENT}: has no subject {name}" for name in digests if name not in subjects]
    wrong += [f"{STATEMENT}: names {name}, which is not there" for name in subjects if name not in digests]
    wrong += [f"{STATEMENT}: has another digest for {name}" for name, digest in digests.items() if subjects.get(name, digest) != digest]
    if predicate != wanted["predicate"]:
        theirs, ours = predicate if isinstance(predicate, dict) else {}, wanted["predicate"]
        assert isinstance(ours, dict)
        keys = [key for key in dict.fromkeys((*ours, *theirs)) if theirs.get(key) != ours.get(key)]
        wrong.append(f"{STATEMENT}: its predicate does not follow from the raw data: {', '.join(keys)}")
    return wrong
