from __future__ import annotations

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.host.toml_text import CannotEdit, edit_for, scan, value_at
from tests.tools.host.kata import CONFIGURATION

KEYS = st.sampled_from(["memcg_swap", "other", "a-b", '"quoted # key"', "'[x]'", "dotted.key"])
VALUES = st.sampled_from(
    [
        "true",
        "1",
        "-1.5e3",
        "nan",
        '"text"',
        '"# no comment"',
        r'"\"\\"',
        r"'\'",
        '"""\n[agent.kata.mem_agent]\nmemcg_swap = 3\n\\"""\n"""',
        '""""quoted"" at the end"""""',
        "'''\n#memcg_swap = 1\n'''",
        '""',
        "''",
        "[]",
        '[ # ]\n  "]",\n  { a = "}" }, # more\n]',
        "{ memcg_swap = true, b = [1, 2] }",
        "2020-01-01T00:00:00Z",
    ]
)
COMMENTS = st.sampled_from(
    ["", "# prose", "#memcg_swap = true", "  # other = [1]", "#[x]", "# =", "#"]
)
BLANKS = st.sampled_from(["", " ", "\t", "  "])
PAIRS = st.builds("{}{}{}={}{} {}".format, BLANKS, KEYS, BLANKS, BLANKS, VALUES, COMMENTS)
HEADERS = st.sampled_from(
    [
        "[agent.kata.mem_agent]",
        '[ agent . "kata" . mem_agent ] # here',
        "[agent.kata]",
        "[hypervisor.qemu]",
        "[[several]]",
        "[several.deep]",
        "#[agent.kata.mem_agent]",
    ]
)
LINES = st.lists(PAIRS | HEADERS | COMMENTS | BLANKS, max_size=12)


def _valid(text: str) -> bool:
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return False
    return True


TEXTS = st.builds(
    lambda lines, newline, last: newline.join(lines).replace("\n", newline) + last,
    LINES,
    st.just("\n"),
    st.sampled_from(["\n", ""]),
).filter(_valid)
TEXTS_OF_ANY_NEWLINE = TEXTS | TEXTS.map(lambda text: text.replace("\n", "\r\n"))
TABLE = ("agent", "kata", "mem_agent")


def _read(text: str) -> dict[str, Any]:
    return tomli.loads(text, parse_float=str)


def _flat(value: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        key: each
        for name, inner in value.items()
        for key, each in _flat(inner, (*path, name)).items()
    }


@given(TEXTS_OF_ANY_NEWLINE)
def test_the_statements_are_the_whole_text_in_order(text: str) -> None:
    statements = list(scan(text))
    assert "".join(text[each.start : each.end] for each in statements) == text
    assert all(each.start < each.end for each in statements)


@given(TEXTS_OF_ANY_NEWLINE)
def test_every_pair_outside_of_arrays_is_found_with_its_value(text: str) -> None:
    document = _read(text)
    for each in scan(text):
        if each.kind == "pair" and each.table is not None:
            written = text[each.value_start : each.value_end]
            assert _read(f"v = {written}")["v"] == value_at(document, each.table + each.key)


@given(TEXTS_OF_ANY_NEWLINE, st.sampled_from(["true", "7", '"x"']))
def test_an_edit_changes_one_value_and_its_undoing_gives_the_text_back(
    text: str, value: str
) -> None:
    before = _flat(_read(text))
    target = (*TABLE, "memcg_swap")
    try:
        edit = edit_for(text, TABLE, "memcg_swap", value)
    except CannotEdit:
        return
    edited = edit.apply(text)
    assert edit.undo(edited) == text
    after = _flat(_read(edited))
    assert after.pop(target) == tomli.loads(f"v = {value}")["v"]
    gone = {path: each for path, each in before.items() if after.get(path) != each}
    assert all(target[: len(path)] == path[: len(target)] for path in gone)
    assert after.keys() <= before.keys()


@given(TEXTS_OF_ANY_NEWLINE)
def test_a_text_in_which_every_table_is_one_can_always_be_edited(text: str) -> None:
    whole = not any(
        isinstance(value_at(_read(text), TABLE[:depth]), (str, int, bool, list))
        for depth in range(1, 4)
    )
    if whole and '"quoted' not in text:
        assert edit_for(text, TABLE, "memcg_swap", "7")


def test_setting_twice_is_setting_once() -> None:
    once = edit_for(CONFIGURATION, TABLE, "memcg_swap", "true").apply(CONFIGURATION)
    twice = edit_for(once, TABLE, "memcg_swap", "true").apply(once)
    assert twice == once


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("[t]\nk = 1 # one\n", "[t]\nk = 7 # one\n"),
        ("[t]\n  #k = 1 # one\n", "[t]\n  k = 7 # one\n"),
        ("[t]\n#  k=1", "[t]\nk=7"),
        ("[t]\n# k = 3 or so\n#k = 1\n", "[t]\n# k = 3 or so\nk = 7\n"),
        ("[t]\n#k = 1\nk = 2\n", "[t]\n#k = 1\nk = 7\n"),
        ("[t]\n\ta = 1\n\n# of u\n[u]\n", "[t]\n\ta = 1\n\tk = 7\n\n# of u\n[u]\n"),
        ("[t]\n[u]\nk = 1\n", "[t]\nk = 7\n[u]\nk = 1\n"),
        ("[t]\r\na = 1\r\n", "[t]\r\na = 1\r\nk = 7\r\n"),
        ("[t]\na = 1", "[t]\na = 1\nk = 7"),
        ("", "[t]\nk = 7\n"),
        ("a = 1\n", "a = 1\n\n[t]\nk = 7\n"),
        ("a = 1", "a = 1\n\n[t]\nk = 7\n"),
        ("t.a = 1\n", "t.a = 1\nt.k = 7\n"),
        ("t.k = 1\n", "t.k = 7\n"),
        ("#[t]\n#k = 1\n", "#[t]\n#k = 1\n\n[t]\nk = 7\n"),
        ("[u]\n#k = 1\n[t]\n", "[u]\n#k = 1\n[t]\nk = 7\n"),
        ("[[u]]\nk = 1\n", "[[u]]\nk = 1\n\n[t]\nk = 7\n"),
        ("[t]\nk = [\n 1,\n] # list\n", "[t]\nk = 7 # list\n"),
        ("['t']\n'k' = 1\n", "['t']\n'k' = 7\n"),
    ],
)
def test_where_a_key_goes(text: str, edited: str) -> None:
    assert edit_for(text, ("t",), "k", "7").apply(text) == edited


@pytest.mark.parametrize("text", ["t = 1\n", "t = { a = 1 }\n", "[[t]]\na = 1\n"])
def test_a_place_that_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(CannotEdit):
        edit_for(text, ("t",), "k", "7")


def test_a_key_of_the_document_itself_stands_before_every_table() -> None:
    assert edit_for("[t]\na = 1\n", (), "k", "7").apply("[t]\na = 1\n") == "k = 7\n[t]\na = 1\n"


def test_a_dotted_key_is_written_as_its_neighbour_is_and_quoted_where_it_must_be() -> None:
    text = "'a \\x9b\"'.b = 1\n"
    edited = edit_for(text, ('a \\x9b"',), "k", "7").apply(text)
    assert tomli.loads(edited) == {'a \\x9b"': {"b": 1, "k": 7}}
    assert edited.startswith(text)
