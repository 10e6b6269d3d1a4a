"""Lines that stay lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.actions import Because, Decision
from memreact.telemetry.journal import Journal


def written(level: str, saw: dict[str, object], *, under_systemd: bool = False) -> list[str]:
    lines: list[str] = []
    Journal("debug", under_systemd=under_systemd, write=lines.append).say(level, "x", **saw)
    return lines


def test_a_line_is_a_word_and_pairs() -> None:
    assert written("info", {"a": 1, "b": "two"}) == ["x a=1 b=two\n"]


def test_under_systemd_a_line_begins_with_its_priority() -> None:
    for level, number in (("error", 3), ("warning", 4), ("notice", 5), ("info", 6), ("debug", 7)):
        assert written(level, {}, under_systemd=True) == [f"<{number}>x\n"]


def test_what_is_less_important_than_the_level_is_not_written() -> None:
    lines: list[str] = []
    journal = Journal("notice", write=lines.append)
    for level in ("error", "warning", "notice", "info", "debug"):
        journal.say(level, level)
    assert lines == ["error\n", "warning\n", "notice\n"]
    journal.level = "debug"
    journal.say("debug", "now")
    assert lines[-1] == "now\n"


def test_a_name_with_blanks_or_quotes_is_quoted() -> None:
    assert written("info", {"memcg": '/a b/"c"\\d'}) == ['x memcg="/a b/\\"c\\"\\\\d"\n']


def test_an_empty_value_is_seen() -> None:
    assert written("info", {"detail": ""}) == ['x detail=""\n']


def test_a_cgroup_that_is_called_like_a_line_of_ours_cannot_forge_one() -> None:
    (line,) = written("info", {"memcg": "/a\n<3>error because=forged"})
    assert line == 'x memcg="/a\\n<3>error because=forged"\n'


def test_control_and_wide_characters_and_bytes_that_are_no_text_stay_in_the_line() -> None:
    (line,) = written("info", {"memcg": "/\x1b[2J\x00\u2028\u202e漢\udcff"})
    assert line == 'x memcg="/\\x1b[2J\\x00\\u2028\\u202e漢\\udcff"\n'


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_any_name_is_one_line_that_can_be_encoded(name: str) -> None:
    (line,) = written("info", {"memcg": name})
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.encode()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=3))
def test_two_names_never_look_the_same(one: str, more: str) -> None:
    assert (written("info", {"n": one}) == written("info", {"n": one + more})) == (more == "")


def test_a_decision_is_told_as_loud_as_its_verdict_deserves() -> None:
    lines: list[str] = []
    journal = Journal("info", under_systemd=True, write=lines.append)
    journal.tell(Decision("skip", Because("nothing_cold"), "/a", 0))
    journal.tell(Decision("turn", Because("turn_ended", {"evicted_pages": 7})))
    journal.tell(Decision("pause", Because("guest_stall_over_limit", {"stall_us": 9})))
    assert lines == [
        "<6>decision action=turn because=turn_ended evicted_pages=7\n",
        "<5>decision action=pause because=guest_stall_over_limit stall_us=9\n",
    ]


def test_at_debug_each_cgroups_decision_is_told() -> None:
    lines: list[str] = []
    journal = Journal("debug", write=lines.append)
    journal.tell(Decision("skip", Because("protected", {"kept_bytes": 5}), "/a b", 1))
    expected = 'decision action=skip memcg="/a b" node=1 because=protected kept_bytes=5\n'
    assert lines == [expected]
