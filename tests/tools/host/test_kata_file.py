from __future__ import annotations

import re

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.host.kata_file import (
    KataFile,
    Unreadable,
    findings,
    set_option,
    standings,
)
from memreact_tools.host.kata_options import (
    OPTIONS,
    BadValue,
    Option,
    UnknownOption,
    option_named,
    toml_value,
)
from memreact_tools.host.toml_text import CannotEdit, value_at
from tests.tools.host.kata import CONFIGURATION, SHIPPED_OUT

EXAMPLES = {bool: "true", int: "7", str: "/swap"}
GOOD = """\
[hypervisor.clh]
reclaim_guest_freed_memory = true
enable_guest_swap = true
[agent.kata.mem_agent]
mem_agent_enable = true
memcg_swap = true
"""
AGENT_FILE = "server_addr = 'vsock://-1:1024'\n#mem_agent_enable = true\n"


def _set(text: str, name: str, value: str) -> str:
    return set_option(KataFile.parse(text), option_named(name), value).text


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("text", [CONFIGURATION, SHIPPED_OUT, "[hypervisor.clh]\n"])
def test_every_option_of_the_how_to_can_be_set_and_is_then_in_force(
    option: Option, text: str
) -> None:
    file = KataFile.parse(text)
    edited = set_option(file, option, EXAMPLES[option.kind])
    said = tomli.loads(f"v = {toml_value(option, EXAMPLES[option.kind])}")["v"]
    assert value_at(tomli.loads(edited.text), file.place(option)) == said
    (standing,) = (each for each in standings(edited) if each.option == option)
    assert (standing.how, standing.in_force) == ("set", said)


@pytest.mark.parametrize(
    ("name", "value", "old", "new"),
    [
        ("mem_agent_enable", "true", "#mem_agent_enable = true\n", "mem_agent_enable = true\n"),
        (
            "reclaim_guest_freed_memory",
            "true",
            "#reclaim_guest_freed_memory = true\n",
            "reclaim_guest_freed_memory = true\n",
        ),
        ("memcg_swap", "true", "\t# memcg_swap = false\n", "\tmemcg_swap = true\n"),
        ("memcg_swappiness_max", "60", "max=50\n", "max=60\n"),
        ("compact_sec_max", "-1", "=   180 # seconds", "=   -1 # seconds"),
        ("guest_swap_path", "/s w", '# guest_swap_path = "/run/k', 'guest_swap_path = "/s w"'),
        ("enable_guest_swap", "true", "enable_guest_swap = false", "enable_guest_swap = true"),
    ],
)
def test_an_option_is_set_where_it_stands_and_nothing_else_moves(
    name: str, value: str, old: str, new: str
) -> None:
    edited = _set(CONFIGURATION, name, value)
    at = CONFIGURATION.index(old)
    assert edited[:at] == CONFIGURATION[:at]
    assert edited[at:].startswith(new)
    rest = CONFIGURATION[at:].split("\n", 1)[1]
    assert edited.endswith(rest)


def test_a_prefix_is_taken_off_where_the_file_has_none_and_put_on_where_it_has() -> None:
    assert "\nmemcg_period_secs = 9\n" in _set(CONFIGURATION, "mem_agent_memcg_period_secs", "9")
    assert _set(AGENT_FILE, "memcg_swap", "true").startswith(
        "server_addr = 'vsock://-1:1024'\nmem_agent_memcg_swap = true\n"
    )
    assert "\nmem_agent_enable = true\n" in _set(AGENT_FILE, "enable", "true")


def test_the_other_name_of_enable_is_edited_where_a_file_has_it() -> None:
    text = "[agent.kata.mem_agent]\nenable = false\n"
    assert _set(text, "mem_agent_enable", "true") == text.replace("false", "true")


def test_a_value_that_holds_already_is_not_written_otherwise() -> None:
    text = "[agent.kata.mem_agent]\nmemcg_period_secs = 0x258\n"
    assert _set(text, "memcg_period_secs", "600") == text


@pytest.mark.parametrize("never", ["18446744073709551615", "9223372036854775807"])
def test_never_is_written_as_katas_parser_takes_it(never: str) -> None:
    edited = _set(CONFIGURATION, "compact_force_times", never)
    assert "\ncompact_force_times = 9223372036854775807\n" in edited


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memcg_swap", "True"),
        ("memcg_swap", "1"),
        ("memcg_swappiness_max", "201"),
        ("memcg_swappiness_max", "-1"),
        ("memcg_swappiness_max", "1_0"),
        ("memcg_swappiness_max", "\u0663"),
        ("memcg_swappiness_max", "1.5"),
        ("memcg_period_secs", "0"),
        ("memcg_period_secs", "9223372036854775808"),
        ("memcg_period_psi_percent_limit", "101"),
        ("compact_order", "256"),
        ("compact_force_times", "18446744073709551616"),
        ("compact_sec_max", "-9223372036854775809"),
        ("guest_swap_path", "relative"),
        ("guest_swap_path", "/a\nb"),
    ],
)
def test_a_value_that_the_option_does_not_take_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadValue, match=name):
        _set(CONFIGURATION, name, value)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("memcg_swp", "memcg_swap"), ("reclaim_guest_freed_mem", "reclaim_guest_freed_memory")],
)
def test_a_misspelt_option_is_refused_and_the_near_one_named(misspelt: str, meant: str) -> None:
    with pytest.raises(UnknownOption, match=f"did you mean {meant}"):
        option_named(misspelt)


def test_a_file_that_is_no_toml_is_refused_with_the_line() -> None:
    with pytest.raises(Unreadable, match="line 2"):
        KataFile.parse("a = 1\na = 2\n")


@pytest.mark.parametrize("text", [f"a = {'[' * 50_000}{']' * 50_000}\n", f"a = {'9' * 5000}\n"])
def test_a_file_that_nests_or_counts_further_than_is_read_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        KataFile.parse(text)


@pytest.mark.parametrize("value", ["[" * 500 + "]" * 500, "9" * 5000])
def test_whatever_is_commented_out_an_option_is_set(value: str) -> None:
    text = f"[hypervisor.qemu]\n# {value}\n#x = {value}\n"
    option = option_named("reclaim_guest_freed_memory")
    file = KataFile.parse(text)
    assert findings(file) is not None
    assert set_option(file, option, "true").document["hypervisor"]["qemu"] == {option.name: True}


def test_several_hypervisors_ask_for_a_name() -> None:
    text = "[hypervisor.qemu]\n[hypervisor.clh]\n"
    with pytest.raises(Unreadable, match="qemu, clh"):
        KataFile.parse(text)
    named = KataFile.parse(text, hypervisor="clh")
    option = option_named("reclaim_guest_freed_memory")
    assert set_option(named, option, "true").text == text + "reclaim_guest_freed_memory = true\n"


@pytest.mark.parametrize("text", ["[runtime]\n", AGENT_FILE])
def test_an_option_without_a_place_in_the_file_is_refused(text: str) -> None:
    with pytest.raises(CannotEdit):
        _set(text, "reclaim_guest_freed_memory", "true")


def test_a_good_file_has_no_findings() -> None:
    assert findings(KataFile.parse(GOOD)) == []
    assert findings(KataFile.parse("mem_agent_enable = true\n")) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("mem_agent_enable = true", "", "mem_agent_enable is not true"),
        ("mem_agent_enable = true", "enable = false", "mem_agent_enable is not true"),
        ("freed_memory = true", "freed_memory = false", "reclaim_guest_freed_memory is not true"),
        ("reclaim_guest", "#reclaim_guest", "reclaim_guest_freed_memory is not true"),
        ("enable_guest_swap = true", "", "memcg_swap is true, but"),
        ("memcg_swap = true", "memcg_disable = true", "memcg_disable is true"),
        ("memcg_swap = true", "compact_disable = true", "compact_disable is true"),
        ("hypervisor.clh", "hypervisor.qemu", "refuses for QEMU"),
        ("memcg_swap", "memcg_swapp", "refuses memcg_swapp, .* did you mean memcg_swap"),
        ("[agent.kata.mem_agent]", "[agent.kata]", r"mem_agent_enable has no effect in \[agent"),
        ("freed_memory = ", "freed_memory_ = ", "did you mean reclaim_guest_freed_memory"),
        ("memcg_swap = true", "memcg_swap = 1", "memcg_swap = 1 is no value"),
        ("memcg_swap", "memcg_period_secs = 0\nmemcg_swap", "memcg_period_secs = 0 is no value"),
    ],
)
def test_what_keeps_memory_from_the_host_is_found(old: str, new: str, finding: str) -> None:
    assert old in GOOD
    text = "\n".join(findings(KataFile.parse(GOOD.replace(old, new))))
    assert re.search(finding, text)


def test_a_runtimes_file_without_a_hypervisor_is_a_finding() -> None:
    found = findings(KataFile.parse("[agent.kata.mem_agent]\nmem_agent_enable = true\n"))
    assert found == [
        "there is no [hypervisor.NAME] table, where reclaim_guest_freed_memory belongs"
    ]


@given(st.sampled_from(OPTIONS), st.text(max_size=30))
def test_what_is_taken_as_a_value_is_toml_of_the_options_kind(option: Option, text: str) -> None:
    try:
        written = toml_value(option, text)
    except BadValue:
        return
    assert type(tomli.loads(f"v = {written}")["v"]) is option.kind


def test_a_hypervisor_that_is_not_there_is_refused_and_those_that_are_are_named() -> None:
    with pytest.raises(Unreadable, match=r"no \[hypervisor.qmeu\], but qemu, clh"):
        KataFile.parse("[hypervisor.qemu]\n[hypervisor.clh]\n", hypervisor="qmeu")
    assert KataFile.parse("[runtime]\n", hypervisor="qemu").hypervisor == "qemu"
