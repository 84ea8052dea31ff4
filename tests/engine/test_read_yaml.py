from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.engine.read_yaml import MAX_BYTES, MAX_VALUES, merge, read_text, read_yaml


def read(text):
    return read_text(text, Path("s.yaml"))


def refusal(text):
    with pytest.raises(BadInput) as refused:
        read(text)
    return str(refused.value)


def lines(text):
    return {key: place.line for key, place in read(text).places.items() if key}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'null'", "null"),
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("2024-13-45", "2024-13-45"),
        ("3 %", "3 %"),
        ("at most 50 % of fp32", "at most 50 % of fp32"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("&anchor true", True),
        ("models/net.py:build", "models/net.py:build"),
        ("|\n  two\n  lines", "two\nlines\n"),
        (">-\n  two\n  lines", "two lines"),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(written, value):
    read_value = read(f"key: {written}\n").value["key"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_keys_are_text_as_written():
    assert read("16: a\n0x10: b\ntrue: c\n1.50: d\n'off': e\n").value == {"16": "a", "0x10": "b", "true": "c", "1.50": "d", "off": "e"}


def test_every_value_knows_its_line():
    assert lines("a: 1\nb:\n  c: 2\n  d: [x,\n      {y: 3}]\ne:\n- f\n- g:\n    h: 4\n") == {
        "a": 1,
        "b": 2,
        "b.c": 3,
        "b.d": 4,
        "b.d[0]": 4,
        "b.d[1]": 5,
        "b.d[1].y": 5,
        "e": 6,
        "e[0]": 7,
        "e[1]": 8,
        "e[1].g": 8,
        "e[1].g.h": 9,
    }


def test_a_place_that_is_not_written_is_that_of_the_nearest_above():
    document = read("a:\n  b: [1]\n")
    assert document.place("a.b[0].c").line == 2
    assert document.place("a.missing").line == 1
    assert document.place("missing").line == 1
    assert read("").place("missing") is None


def test_an_alias_stands_for_its_value_and_an_anchor_may_be_used_again():
    assert read("a: &x [1, 2]\nb: *x\nc: &x 3\nd: *x\n").value == {"a": [1, 2], "b": [1, 2], "c": 3, "d": 3}


def test_a_merge_key_brings_what_is_not_written_and_its_lines():
    text = "one: &one {a: 1, b: 2}\ntwo: &two\n  b: 3\n  c: 4\nall:\n  <<: [*one, *two]\n  a: 5\n"
    assert read(text).value["all"] == {"a": 5, "b": 2, "c": 4}
    assert {key: line for key, line in lines(text).items() if key.startswith("all.")} == {"all.a": 7, "all.b": 1, "all.c": 4}


def test_a_byte_order_mark_and_windows_line_ends_are_read():
    assert read("\ufeffa: 1\r\nb: 2\r\n").value == {"a": 1, "b": 2}


def test_an_empty_file_has_no_value():
    for text in ("", "\n\n", "# only a comment\n", "---\n...\n"):
        assert read(text).value is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3 a: is written twice, first in line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", "s.yaml:2 a.b.c: is written twice, first in line 2"),
        ("16: a\n'16': b\n", "s.yaml:2 16: is written twice, first in line 1"),
        (
            "a:\n\tb: 1\n",
            "s.yaml:2: is not valid YAML: found character '\\t' that cannot start any token\n  indent with spaces, not with tabs",
        ),
        ("a: @b\n", "s.yaml:1: is not valid YAML: found character '@' that cannot start any token\n  put the value in quotes"),
        ("a: 1\nb: %c\n", "s.yaml:2: is not valid YAML: found character '%' that cannot start any token\n  put the value in quotes"),
        (
            "a: b: c\n",
            "s.yaml:1: is not valid YAML: mapping values are not allowed here\n"
            "  put a value that holds ': ' in quotes, or check the indentation",
        ),
        (
            "a: 1\n  b: 2\n",
            "s.yaml:2: is not valid YAML: mapping values are not allowed here\n"
            "  put a value that holds ': ' in quotes, or check the indentation",
        ),
        (
            "a:\n    - b\n  - c\n",
            "s.yaml:3: is not valid YAML: this does not fit the block that begins in line 1\n"
            "  check the indentation, and close every quote and bracket",
        ),
        (
            "a: 'x'y\n",
            "s.yaml:1: is not valid YAML: this does not fit the block that begins in line 1\n"
            "  check the indentation, and close every quote and bracket",
        ),
        ("a: 1\nb: [2, 3\n", "s.yaml:2: is not valid YAML: this bracket is never closed"),
        ("a: 1\nb: [2,\n", "s.yaml:3: is not valid YAML: the file ends inside a bracket"),
        ("a: [1", "s.yaml:1: is not valid YAML: this bracket is never closed"),
        ("a: 1\nb: {c: [2, 3]\n", "s.yaml:2: is not valid YAML: this bracket is never closed"),
        ("a: 'one\nb: 2\n\n", "s.yaml:1: is not valid YAML: this quote is never closed"),
        ("a: [1, 2\nb: 3\n", "s.yaml:2: is not valid YAML: expected ',' or ']', but got ':' (the bracket opens in line 1)"),
        ("a: *b\n", "s.yaml:1: is not valid YAML: found undefined alias 'b'\n  put a value that starts with '*' in quotes"),
        ("a: 1\n---\na: 2\n", "s.yaml:2: holds more than one document\n  write one scenario to a file"),
        ("%YAML 1.1\n---\na: off\n", "s.yaml:1: asks for YAML 1.1: scenarios are YAML 1.2\n  remove the %YAML line"),
        ("# a comment\n\n%YAML 1.1\n---\n", "s.yaml:3: asks for YAML 1.1: scenarios are YAML 1.2\n  remove the %YAML line"),
        ("a: 1\nb: \x07\n", "s.yaml:2: holds a character that is not allowed: 0x07"),
        ("a: !!python/object:os.system x\n", "s.yaml:1 a: the tag '!!python/object:os.system' is not known here\n  remove it"),
        (
            "a: !include other.yaml\n",
            "s.yaml:1 a: the tag '!include' is not known here\n  to build on another file, write 'extends: other.yaml'",
        ),
        ("a: !!binary aGk=\n", "s.yaml:1 a: the tag '!!binary' is not known here\n  remove it"),
        ("? [a, b]\n: 1\n", "s.yaml:1: a key is plain text"),
        ("a:\n  <<: 3\n", "s.yaml:2 a: '<<' takes a mapping, or a list of mappings"),
        ("a: &a\n  <<: *a\n", "s.yaml:1 a: '<<' takes a mapping, or a list of mappings"),
        ("a: &a [1, *a]\n", "s.yaml:1 a[1]: an alias stands inside what it names"),
        ("a: &a\n  b: {c: *a}\n", "s.yaml:1 a.b.c: an alias stands inside what it names"),
        (
            "a: .inf\nb: .nan\nc: 1e999\n",
            "s.yaml:1 a: '.inf' is not a finite number\ns.yaml:2 b: '.nan' is not a finite number\n"
            "s.yaml:3 c: '1e999' is not a finite number",
        ),
        (
            "a: !!int one\nb: !!bool 2\n",
            "s.yaml:1 a: 'one' is not a whole number of reasonable length\ns.yaml:2 b: '2' is not true or false",
        ),
        (f"a: {'9' * 5000}\n", f"s.yaml:1 a: '{'9' * 37}...' is not a whole number of reasonable length"),
        ('a: "\\ud800"\n', "s.yaml:1 a: '\\ud800' is not text that a file can hold"),
        ('a: "\\0"\n', "s.yaml:1 a: '\\x00' is not text that a file can hold"),
        ("[" * 5000, "s.yaml: is nested too deeply: not a scenario"),
    ],
)
def test_what_is_not_plain_yaml_is_told_with_its_line(text, said):
    assert refusal(text) == said


def test_all_that_is_wrong_with_the_structure_is_told_at_once():
    assert refusal("a: 1\na: 2\nb: !x 3\nc: .nan\n") == (
        "s.yaml:2 a: is written twice, first in line 1\ns.yaml:3 b: the tag '!x' is not known here\n  remove it\n"
        "s.yaml:4 c: '.nan' is not a finite number"
    )


def bomb(first, line):
    """Each line holds the one above nine times: 9 ** 9 values in ten lines."""
    return f"a0: &a0 {first}\n" + "".join(f"a{n}: &a{n} {line.format(','.join([f'*a{n - 1}'] * 9))}\n" for n in range(1, 10))


@pytest.mark.parametrize("text", [bomb("x", "[{}]"), bomb("{x: 1}", "{{<<: [{}]}}")])
def test_a_few_lines_of_aliases_that_stand_for_billions_of_values_are_refused(text):
    assert refusal(text) == "s.yaml: holds more than 20,000 values with its aliases written out: not a scenario"


def test_as_many_values_as_allowed_are_read():
    assert len(read("\n".join(f"- {n}" for n in range(MAX_VALUES - 1))).value) == MAX_VALUES - 1


def test_a_file_that_is_not_utf_8_is_told_with_the_line(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(BadInput) as refused:
        read_yaml(path)
    assert str(refused.value) == f"{path}:2: is not UTF-8 text\n  save the file as UTF-8"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(BadInput) as refused:
        read_yaml(path)
    assert str(refused.value) == f"{path}: is larger than 1 MiB: not a scenario"


def test_a_file_that_is_missing_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "resnet.yaml").write_text("a: 1\n")
    for name, hint in {"resnt.yaml": "resnet.yaml", "resnet.yml": "resnet.yaml", "bert.yaml": None}.items():
        with pytest.raises(BadInput) as refused:
            read_yaml(tmp_path / name)
        tail = "" if hint is None else f"\n  did you mean '{tmp_path / hint}'?"
        assert str(refused.value) == f"{tmp_path / name}: does not exist{tail}"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_merging_lays_mappings_over_each_other_and_replaces_all_else():
    base = read_text("a: {b: 1, c: [1, 2]}\nd: {e: 1}\nf: 1\n", Path("base.yaml"))
    over = read_text("a:\n  c: [3]\nd: 2\nf: {g: 1}\n", Path("over.yaml"))
    both = merge(base, over)
    assert both.value == {"a": {"b": 1, "c": [3]}, "d": 2, "f": {"g": 1}}
    assert list(both.value) == ["a", "d", "f"]
    where = {key: f"{place.path}:{place.line}" for key, place in both.places.items() if key}
    assert where == {
        "a": "over.yaml:1",
        "a.b": "base.yaml:1",
        "a.c": "over.yaml:2",
        "a.c[0]": "over.yaml:2",
        "d": "over.yaml:3",
        "f": "over.yaml:4",
        "f.g": "over.yaml:4",
    }
