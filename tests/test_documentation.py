"""The pages: the reference is what the code gives, the index has every page, and no link is dead."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from reference.pages import FOLDER, pages

from harness import plugins
from harness.cli import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
MADE = pages()


def tokens_of(text):
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        yield token, token.children or []


def links_in(text):
    """The targets of links and images."""
    inline = [child for _, children in tokens_of(text) for child in children]
    return [child.attrGet("href" if child.type == "link_open" else "src") for child in inline if child.type in ("link_open", "image")]


def anchors_in(text):
    """What GitHub calls each heading: lower case, punctuation gone, blanks as dashes, numbered where two are alike."""
    found, seen, heading = set(), Counter(), False
    for token, children in tokens_of(text):
        if heading:
            words = "".join(child.content for child in children if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        heading = token.type == "heading_open"
    return found


def dead_links(path, text):
    for link in links_in(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists():
            yield f"{link}: there is no {file}"
        elif anchor and target.suffix == ".md" and anchor not in anchors_in(target.read_text(encoding="utf-8")):
            yield f"{link}: {file or path.name} has no heading '{anchor}'"


@pytest.mark.parametrize("page", PAGES)
def test_no_link_of_a_page_is_dead(page):
    path = ROOT / page
    assert list(dead_links(path, path.read_text(encoding="utf-8"))) == []


def test_a_dead_link_a_dead_anchor_and_a_missing_image_are_found(tmp_path):
    (tmp_path / "b.md").write_text("# One `two`: three\n\n## Same\n\n## Same\n", encoding="utf-8")
    text = "[a](b.md) [b](b.md#one-two-three) [c](b.md#same-1) [d](https://example.org/x) [e](#here)\n\n## Here\n\n"
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")
    assert list(dead_links(path, text)) == []
    bad = "[a](c.md) [b](b.md#two) [c](b.md#same-2) [d](#there) ![e](e.png)"
    assert [told.partition(":")[0] for told in dead_links(path, text + bad)] == ["c.md", "b.md#two", "b.md#same-2", "#there", "e.png"]


def test_the_index_links_to_every_page():
    index = DOCS / "README.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links_in(index.read_text(encoding="utf-8"))}
    assert sorted(path.relative_to(DOCS).as_posix() for path in set(DOCS.rglob("*.md")) - linked - {index}) == []


@pytest.mark.parametrize("name", MADE)
def test_the_reference_is_what_the_code_gives_now(name):
    path = FOLDER / name
    if os.environ.get("HARNESS_REGENERATE_GOLDEN") == "1":
        path.write_text(MADE[name], encoding="utf-8")
    assert path.read_text(encoding="utf-8") == MADE[name], f"docs/reference/{name} is behind the code: 'make reference' writes it anew"


def test_the_reference_has_no_page_that_nothing_makes():
    assert sorted(path.name for path in FOLDER.glob("*.md")) == sorted(MADE)


@pytest.mark.parametrize("family", [name.removesuffix(".md") for name in MADE if name != "commands.md"])
def test_every_plugin_has_its_entry_with_its_help_and_every_option(family):
    text = MADE[f"{family}.md"]
    entries = dict(re.findall(r"^## (\S+)\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert tuple(entries) == plugins.names(family)
    for name, entry in entries.items():
        kind = plugins.load(family, name)
        assert entry.startswith(plugins.describe(plugins.find(family, name)).help.replace("``", "`"))
        assert [option for option, field in kind.model_fields.items() if f"\n| `{field.alias or option}` |" not in entry] == []
        assert kind.extra is None or f"pip install 'harness[{kind.extra}]'" in entry


def test_defaults_and_types_stand_as_they_are_written_in_a_scenario():
    assert "| `duration` | such as `20 s` | `20 s` |" in MADE["loads.md"]
    assert "| `per_channel` | `true` or `false` | `true` |" in MADE["passes.md"]
    assert "[latency_p99](#latency_p99) | ns | lower | 10 % | 2.00 µs |" in MADE["metrics.md"]
    assert "[accuracy](#accuracy) | fraction | higher | 0.5 points |" in MADE["metrics.md"]


def test_every_command_and_every_option_is_in_the_reference():
    text = MADE["commands.md"]
    for name, command in cli.commands.items():
        entry = re.search(rf"^## harness {name}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        assert entry is not None
        options = [option for parameter in command.params if not getattr(parameter, "hidden", False) for option in parameter.opts]
        assert [option for option in options if option.startswith("--") and option not in entry[1]] == []
    assert "## harness audit verify" in text
