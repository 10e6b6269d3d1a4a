"""Kata's files, read as they are."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from memreact.settings.errors import SettingsError
from memreact.settings.files import load_text
from memreact.settings.kata import KATA_KEYS, is_kata, kata_settings
from memreact.settings.layers import said
from memreact_schemas.config import Config

RUNTIME = """\
[hypervisor.dragonball]
path = "dbs-builtin-xxx"
reclaim_guest_freed_memory = true

[agent.kata]
debug_console_enabled = true

[agent.kata.mem_agent]
mem_agent_enable = true
memcg_disable = true
memcg_period_secs = 300
memcg_eviction_psi_percent_limit = 2
compact_disable = true
compact_period_secs = 120
compact_psi_percent_limit = 6
compact_sec_max = -1
compact_order = 6
compact_force_times = 9223372036854775807

[runtime]
name = "virt_container"
"""
AGENT = """\
dev_mode = true
server_addr = "vsock://-1:1024"
mem_agent_memcg_swap = true
mem_agent_compact_threshold = 2048
[endpoints]
allowed = ["CreateContainerRequest"]
"""


def said_by(text: str) -> dict[str, object]:
    return dict(said(load_text(text, "F")))


def test_the_runtimes_table_is_read_and_the_rest_of_its_file_is_not() -> None:
    assert said_by(RUNTIME) == {
        "memcg.disabled": True,
        "memcg.period_secs": 300,
        "memcg.eviction_psi_percent_limit": 2,
        "compact.disabled": True,
        "compact.period_secs": 120,
        "compact.compact_psi_percent_limit": 6,
        "compact.compact_sec_max": -1,
        "compact.compact_order": 6,
        "compact.compact_force_times": 2**63 - 1,
    }


def test_the_agents_file_is_read_and_its_other_keys_are_not() -> None:
    assert said_by(AGENT) == {"memcg.swap": True, "compact.compact_threshold": 2048}


def test_every_option_of_theirs_is_one_of_ours() -> None:
    assert len(KATA_KEYS) == 15
    assert KATA_KEYS["memcg_disable"] == ("memcg", "disabled")
    assert KATA_KEYS["compact_psi_percent_limit"] == ("compact", "compact_psi_percent_limit")
    assert KATA_KEYS["compact_period_psi_percent_limit"] == ("compact", "period_psi_percent_limit")


def test_a_file_of_theirs_that_does_not_speak_of_the_mem_agent_says_nothing() -> None:
    assert load_text("[agent.kata]\ndebug_console_enabled = true\n", "F") == Config()


@pytest.mark.parametrize(
    "text",
    [
        "mem_agent_enable = false\nmem_agent_memcg_disable = false",
        "[agent.kata.mem_agent]\nmem_agent_enable = false",
        "[agent.kata.mem_agent]\nenable = false\nmemcg_disable = false",
        "[agent.kata.mem_agent]\nenable = true\nmem_agent_enable = false",
    ],
)
def test_an_explicit_no_to_the_whole_disables_both_parts_whatever_else_is_said(text: str) -> None:
    assert said_by(text) == {"memcg.disabled": True, "compact.disabled": True}


@pytest.mark.parametrize(
    "text", ["mem_agent_enable = true", "[agent.kata.mem_agent]\nenable = true"]
)
def test_a_yes_to_the_whole_says_no_more_than_the_rest_of_the_file(text: str) -> None:
    assert said_by(text) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[agent.kata.mem_agent]\n\nmemcg_swappiness_max = 300",
            (
                "F:3: agent.kata.mem_agent.memcg_swappiness_max: found 300, "
                "expected a whole number from 0 to 200"
            ),
        ),
        (
            "dev_mode = true\nmem_agent_memcg_period_secs = 0",
            (
                "F:2: mem_agent_memcg_period_secs: found 0, "
                "expected a whole number from 1 to 315360000"
            ),
        ),
        (
            "[agent.kata.mem_agent]\nenable = 1",
            "F:2: agent.kata.mem_agent.enable: found 1, expected true or false",
        ),
        (
            "mem_agent_compact_threshold = 18446744073709551616",
            (
                "F:1: mem_agent_compact_threshold: found 18446744073709551616, "
                "expected a whole number from 0 to 18446744073709551615"
            ),
        ),
        (
            "[agent.kata]\nmem_agent = true",
            "F:2: agent.kata.mem_agent: found true, expected a table",
        ),
        (
            "mem_agent_memcg_swap = true\n[memcg]\nswap = true",
            (
                'F:1: found the unknown key "mem_agent_memcg_swap", expected one of memcg, '
                "compact, compact_policy, pressure, reclaim, swap, control, log"
            ),
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_their_file(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(text, "F")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "[agent.kata.mem_agent]\nmemcg_swapp = true",
            (
                'F:2: agent.kata.mem_agent: found the unknown key "memcg_swapp", '
                "expected a known key: did you mean `memcg_swap`?; it is passed over"
            ),
        ),
        (
            "\nmem_agent_memcg_disabled = true",
            (
                'F:2: found the unknown key "mem_agent_memcg_disabled", '
                "expected a known key: did you mean `mem_agent_memcg_disable`?; it is passed over"
            ),
        ),
    ],
)
def test_an_unknown_option_of_theirs_is_a_warning_and_says_nothing(text: str, warning: str) -> None:
    found = kata_settings(tomli.loads(text), "F", text)
    assert found.warnings == [warning]
    assert found.tables == {}


def test_a_file_of_ours_is_not_taken_for_one_of_theirs() -> None:
    assert not is_kata({})
    assert not is_kata({"memcg": {}, "mem_agent_enable": False})
    assert not is_kata({"agent": {"other": {"mem_agent": {}}}})
    assert not is_kata({"agent": {"kata": 7}})


names = st.sampled_from([*KATA_KEYS, "enable", "mem_agent_enable", "mem_agent_memcg_swap", "x"])
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
tables = st.dictionaries(names, values, max_size=4)


@given(tables | values)
def test_any_table_of_theirs_is_taken_or_is_a_settings_error(table: object) -> None:
    value: dict[str, object] = {"agent": {"kata": {"mem_agent": table}}}
    assert is_kata(value)
    try:
        found = kata_settings(value, "F", "")
    except SettingsError as error:
        assert str(error).startswith("F: ")  # noqa: PT017  # either outcome is right
    else:
        assert found.tables.keys() <= {"memcg", "compact"}
