"""The kernel command line: words of ours and of Kata's, in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.boot import parse_cmdline
from memreact.settings.boot import BootSettings, boot_settings
from memreact.settings.kata import KATA_KEYS
from memreact.settings.layers import said
from memreact_schemas.config import Config


def booted(line: str) -> BootSettings:
    return boot_settings(parse_cmdline(line))


def said_on(line: str) -> dict[str, object]:
    read = booted(line)
    assert read.warnings == ()
    return dict(said(read.config))


def warning_of(line: str) -> str:
    (warning,) = booted(line).warnings
    return warning


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("", {}),
        ("root=/dev/vda rw psi=1 quiet agent.log=debug memreact agent.mem", {}),
        ("agent.mem_agent_enable=1", {}),
        (
            "agent.mem_agent_enable=1\nagent.mem_agent_memcg_period_secs=300\n",
            {"memcg.period_secs": 300},
        ),
        (
            (
                "agent.mem_agent_enable=1 agent.mem_agent_memcg_period_secs=300"
                " agent.mem_agent_compact_order=6"
            ),
            {"memcg.period_secs": 300, "compact.compact_order": 6},
        ),
        (
            "agent.mem_agent_compact_order=6 agent.mem_agent_enable=1",
            {"compact.compact_order": 6},
        ),
        ("agent.mem_agent_compact_order=6", {"compact.compact_order": 6}),
        (
            "agent.mem_agent_memcg_disable=true agent.mem_agent_compact_disable=false",
            {"memcg.disabled": True, "compact.disabled": False},
        ),
        (
            (
                "memreact.memcg.swap=true memreact.pressure.system_psi_percent_limit=12.5"
                " memreact.log.level=debug memreact.reclaim.without_mglru=memory.reclaim"
                " memreact.compact.compact_order=auto memreact.control.ttrpc_port=1024"
            ),
            {
                "memcg.swap": True,
                "pressure.system_psi_percent_limit": 12.5,
                "log.level": "debug",
                "reclaim.without_mglru": "memory.reclaim",
                "compact.compact_order": "auto",
                "control.ttrpc_port": 1024,
            },
        ),
        (
            "memreact.swap.zram_algorithm=842 memreact.control.group=1000",
            {"swap.zram_algorithm": "842", "control.group": "1000"},
        ),
        (
            '"memreact.log.level=debug" memreact.memcg.swap="true"',
            {"log.level": "debug"} | {"memcg.swap": True},
        ),
        (
            (
                "agent.mem_agent_compact_sec_max=-5 memreact.compact.compact_force_times="
                "18446744073709551615"
            ),
            {"compact.compact_sec_max": -5, "compact.compact_force_times": 2**64 - 1},
        ),
    ],
)
def test_words_are_read_in_any_order(line: str, values: dict[str, object]) -> None:
    assert said_on(line) == values


@pytest.mark.parametrize("off", ["0", "false", "000", "-0"])
def test_an_explicit_no_disables_both_parts_wherever_it_stands(off: str) -> None:
    both = {"memcg.disabled": True, "compact.disabled": True}
    assert said_on(f"agent.mem_agent_enable={off}") == both
    assert said_on(f"agent.mem_agent_enable={off} agent.mem_agent_memcg_disable=false") == both


@pytest.mark.parametrize("on", ["1", "true", "-1", "7"])
def test_the_last_word_for_a_key_holds(on: str) -> None:
    assert said_on(f"agent.mem_agent_enable=0 agent.mem_agent_enable={on}") == {}
    line = "memreact.memcg.swap=true agent.mem_agent_memcg_swap=false"
    assert said_on(line) == {"memcg.swap": False}
    assert said_on(" ".join(reversed(line.split()))) == {"memcg.swap": True}


def test_the_agents_file_is_found() -> None:
    assert booted("agent.config_file=/a.toml agent.config_file=/b.toml").agent_file == "/b.toml"
    assert booted("").agent_file == ""


@pytest.mark.parametrize(
    ("word", "because"),
    [
        ("memreact.memcg.swap", "one = between name and value"),
        ("memreact.memcg.period_secs=1=2", "one = between name and value"),
        ("memreact.memcg.swap=1", "found 1, expected true or false"),
        ("memreact.memcg.swap=True", 'found "True", expected true or false'),
        ("memreact.memcg.swap=", 'found "", expected true or false'),
        ("memreact.memcg.period_secs=1_000", 'found "1_000", expected a whole number'),
        ("memreact.memcg.period_secs=0x10", 'found "0x10", expected a whole number'),
        ("memreact.memcg.period_secs=1e3", 'found "1e3", expected a whole number'),
        ("memreact.memcg.period_secs=+5", 'found "+5", expected a whole number'),
        ("memreact.memcg.period_secs=٣", "expected a whole number"),
        ("memreact.memcg.period_secs=0", "found 0, expected a whole number from 1"),
        ("memreact.memcg.period_secs=" + "9" * 5000, 'found "999'),
        ("memreact.memcg.period_psi_percent_limit=nan", 'found "nan", expected a number'),
        ("memreact.memcg.period_psi_percent_limit=100.5", "found 100.5, expected a number"),
        ("memreact.memcg.swapp=true", "did you mean `swap`?"),
        ("memreact.memcgs.swap=true", "did you mean `memcg`?"),
        ("memreact.memcg=true", "expected a table"),
        ("memreact.memcg.=true", "expected a table"),
        ("memreact.=true", "found the unknown key"),
        ("memreact.memcg.cgroup=[]", "expected a list"),
        ("memreact.control.group=/etc/passwd", "expected the name of a group"),
        ("agent.mem_agent_memcg_swapp=true", "did you mean `agent.mem_agent_memcg_swap`?"),
        ("agent.mem_agent_swappiness_max=300", "did you mean"),
        ("agent.mem_agent_memcg_swappiness_max=300", "agent.mem_agent_memcg_swappiness_max: found"),
        ("agent.mem_agent_enable=maybe", 'found "maybe", expected true, false or a whole number'),
        ("agent.mem_agent_enable=", 'found "", expected true, false or a whole number'),
        ("agent.config_file=relative.toml", "an absolute path"),
        ("agent.config_file=", "an absolute path"),
    ],
)
def test_a_bad_word_is_passed_over_with_a_warning_and_the_others_hold(
    word: str, because: str
) -> None:
    line = f"memreact.log.decisions=16 {word} memreact.memcg.swappiness_max=7"
    read = booted(line)
    assert dict(said(read.config)) == {"log.decisions": 16, "memcg.swappiness_max": 7}
    assert read.agent_file == ""
    (warning,) = read.warnings
    assert warning.startswith("kernel command line: ")
    assert because in warning
    assert warning.endswith(" is passed over")
    assert len(warning) < 300
    assert warning.isprintable()


def test_a_bad_word_leaves_an_earlier_one_for_the_same_key_in_force() -> None:
    line = "memreact.memcg.period_secs=9 memreact.memcg.period_secs=0"
    assert dict(said(booted(line).config)) == {"memcg.period_secs": 9}


names = st.sampled_from(
    [
        *(f"agent.mem_agent_{name}" for name in [*KATA_KEYS, "enable", "nonsense"]),
        *(f"memreact.{table}.{key}" for table in Config.__struct_fields__ for key in ("swap", "x")),
        *("agent.config_file", "memreact.", "psi"),
    ]
)
texts = st.text(max_size=5) | st.integers().map(str) | st.sampled_from(["true", "auto", "1.5"])
words = st.builds("{}={}".format, names, texts) | st.text(max_size=20)


@given(st.lists(words, max_size=6))
def test_any_words_are_taken_or_passed_over(line: list[str]) -> None:
    read = boot_settings(line)
    assert isinstance(read.config, Config)
    assert len(read.warnings) <= len(line)
    assert all(warning.isprintable() for warning in read.warnings)


@given(st.binary(max_size=200))
def test_any_command_line_boots(data: bytes) -> None:
    booted("memreact." + data.decode(errors="surrogateescape"))
