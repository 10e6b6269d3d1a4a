from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.plain import plain, plain_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS)
def test_no_text_has_anything_left_that_a_terminal_acts_on(text: str) -> None:
    assert plain(text).isprintable()


def test_what_is_printable_stays_as_it_is() -> None:
    assert plain("/käse 1") == "/käse 1"
    assert plain("/a\x1b[2J\n\u202e\x9b") == r"/a\x1b[2J\n\u202e\x9b"


@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS)))
def test_json_means_the_same_afterwards(value: dict[str, object]) -> None:
    made = plain_json(json.dumps(value, ensure_ascii=False))
    assert made.isprintable()
    assert json.loads(made) == value


def test_json_beyond_the_first_plane_is_escaped_in_pairs() -> None:
    assert plain_json('"\U000e0001"') == r'"\udb40\udc01"'
