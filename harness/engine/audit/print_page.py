"""The page as PDF, printed by Chromium where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_S = 120
_WHEN = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}")


def print_page(page: Path, pdf: Path) -> bool:
    """Whether the page could be printed. Nothing is fetched: the page has all that it needs.

    The moment of printing is taken out, so that the same page printed twice by the same browser is the same file.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory(prefix="harness-print-", ignore_cleanup_errors=True) as profile:
        made = Path(profile) / "page.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={made}",
            *(("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()),  # Chromium's sandbox does not start as root
            page.resolve().as_uri(),
        ]
        try:
            subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=True)
            data = made.read_bytes()
        except (OSError, subprocess.SubprocessError):
            return False
    pdf.write_bytes(_WHEN.sub(lambda found: b"/" + found[1] + b" (D:19800101000000", data))
    return True
