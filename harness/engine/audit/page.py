"""The page of an audit, asked of the HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from harness import plugins

if TYPE_CHECKING:
    from harness.core.audit import Audit


class _AuditPages(Protocol):
    def audit_page(self, audit: Audit) -> bytes: ...


def page_of(audit: Audit) -> bytes:
    """The page as it stands in the bundle; the same audit gives the same bytes."""
    return cast("_AuditPages", plugins.load("reports", "html")()).audit_page(audit)
