"""Text that came from somewhere else, for a terminal."""

from __future__ import annotations

import re

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]")
"""Control characters but tab and line break (escape codes begin with one), marks that hide or turn text round, lone surrogates."""


def plain_text(text: str) -> str:
    r"""The text with every character that a terminal would act on written out, as ``\x1b``; letters of all scripts stay."""
    return _ACTING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
