"""What `memreact check` answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from msgspec.structs import replace as with_keys

from memreact.check import EXIT_BAD, EXIT_GOOD, check, printed
from memreact.control.effect import without_effect, without_effect_here
from memreact.control.pushed import Pushed, encode
from memreact.settings.files import FILES, load_text
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, settle
from memreact_schemas.config import DEFAULTS, LEFT_ALONE, Config, Log, overlay
from memreact_schemas.doctor import Capabilities
from tests.able import ABLE
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import full_guest
from tests.schemas.test_config import configs

MINE = """\
[memcg]
swap = true
period_secs = 30
[[memcg.cgroup]]
path = "a/b/"
numa = [1, 0, 1]
floor_bytes = 2000000
[[memcg.cgroup]]
path = "/init.scope"
disabled = false
[pressure]
system_psi_percent_limit = 12.5
"""


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


@pytest.fixture
def root(guest: FakeGuest) -> str:
    """A guest that can do everything, with two nodes."""
    full_guest(guest).shows("/sys/devices/system/node/online", "0-1\n")
    return guest.root


def pushed(root: str, layer: Pushed) -> str:
    path = f"{root}/run/memreact/pushed"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(encode(layer, 7))
    return path


def comments_of(text: str) -> list[str]:
    prefix = "# warning: "
    return [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]


def warnings_of(text: str) -> list[str]:
    return list(without_effect(overlay(DEFAULTS, load_text(text, "F"))))


def test_only_what_differs_from_the_defaults_is_printed_with_its_origin(
    tmp_path: Path, root: str
) -> None:
    mine = write(tmp_path, MINE)
    code, text = check(mine, root=root)
    assert code == EXIT_GOOD
    assert text.replace(mine, "F") == (
        "[memcg]\n"
        "swap = true  # F\n"
        "period_secs = 30  # F\n"
        "\n"
        "[[memcg.cgroup]]\n"
        'path = "/init.scope"  # F\n'
        "disabled = false  # F\n"
        "\n"
        "[[memcg.cgroup]]\n"
        'path = "/a/b"  # F\n'
        "numa = [0, 1]  # F\n"
        "floor_bytes = 2000000  # F\n"
        "\n"
        "[pressure]\n"
        "system_psi_percent_limit = 12.5  # F\n"
    )


def test_a_file_that_says_the_defaults_changes_nothing(tmp_path: Path, root: str) -> None:
    code, text = check(write(tmp_path, "[memcg]\nswap = false\n"), root=root)
    assert (code, text) == (EXIT_GOOD, "# all settings are at their defaults\n")


def test_all_settings_are_printed_when_asked_for(tmp_path: Path) -> None:
    code, text = check(write(tmp_path, MINE), show_all=True)
    assert code == EXIT_GOOD
    shown = tomli.loads(text)
    assert shown["memcg"]["swappiness_max"] == 50
    assert shown["compact"]["compact_force_times"] == 2**64 - 1
    assert shown["compact"]["compact_order"] == "auto"
    assert {entry["path"] for entry in shown["memcg"]["cgroup"]} == {*LEFT_ALONE, "/a/b"}
    assert f"swappiness_max = 50  # {DEFAULT_ORIGIN}\n" in text


def test_a_bad_file_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    mine = write(tmp_path, "[memcg]\nswapp = true\n")
    code, text = check(mine)
    assert code == EXIT_BAD == 2
    assert text.startswith(f"{mine}:2: memcg: found the unknown key")
    assert text.count("\n") == 1


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    assert check(str(tmp_path / "absent.toml"))[0] == EXIT_BAD


def test_the_machines_own_files_are_checked_where_none_is_named(tmp_path: Path) -> None:
    admin = tmp_path / FILES[1].lstrip("/")
    admin.parent.mkdir(parents=True)
    admin.write_text("[memcg]\nperiod_secs = 0\n")
    code, text = check(None, root=str(tmp_path))
    assert code == EXIT_BAD
    assert "period_secs" in text


def test_all_layers_of_the_machine_are_shown_with_their_origins(root: str) -> None:
    for path, key in ((FILES[0], "swappiness_max"), (FILES[1], "period_secs")):
        os.makedirs(os.path.dirname(root + path))
        with open(root + path, "w", encoding="utf-8") as file:
            file.write(f"[memcg]\n{key} = 9\n")
    with open(f"{root}/proc/cmdline", "w", encoding="utf-8") as file:
        file.write("agent.mem_agent_memcg_swap=true memreact.memcg.swapp=true")
    layer = Pushed().with_patch(Config(log=Log(decisions=16)), "host")
    file_pushed = pushed(root, layer.without_rule(("/init.scope", ()), said_below=True))
    code, text = check(None, root=root)
    assert code == EXIT_GOOD
    assert text.replace(root, "") == (
        '# warning: kernel command line: memcg: found the unknown key "swapp", expected a known '
        'key: did you mean `swap`?; the word "memreact.memcg.swapp=true" is passed over\n'
        "# warning: memcg.cgroup[/init.scope], which is built in, was deleted by a call\n"
        "[memcg]\n"
        "swap = true  # kernel command line\n"
        f"swappiness_max = 9  # {FILES[0]}\n"
        f"period_secs = 9  # {FILES[1]}\n"
        "\n"
        "[log]\n"
        "decisions = 16  # pushed by host\n"
    )
    assert os.path.exists(file_pushed)


def test_a_file_that_is_named_is_checked_alone(tmp_path: Path, root: str) -> None:
    pushed(root, Pushed().with_patch(Config(log=Log(decisions=16)), "host"))
    with open(f"{root}/proc/cmdline", "w", encoding="utf-8") as file:
        file.write("memreact.memcg.swap=true nonsense=1=2 memreact.memcg.swapp=1")
    code, text = check(write(tmp_path, "[memcg]\nperiod_secs = 9\n"), root=root)
    assert (code, tomli.loads(text)) == (EXIT_GOOD, {"memcg": {"period_secs": 9}})
    assert comments_of(text) == []


def test_a_file_in_katas_form_can_be_checked(tmp_path: Path, root: str) -> None:
    mine = write(tmp_path, "[agent.kata.mem_agent]\nenable = false\n")
    assert tomli.loads(check(mine, root=root)[1]) == {
        "memcg": {"disabled": True},
        "compact": {"disabled": True},
    }
    code, text = check(write(tmp_path, "mem_agent_memcg_swap = 1\n"), root=root)
    assert code == EXIT_BAD
    assert "mem_agent_memcg_swap: found 1, expected true or false" in text


def test_an_unknown_option_in_katas_form_is_shown_as_a_warning(tmp_path: Path, root: str) -> None:
    code, text = check(write(tmp_path, "mem_agent_memcg_swapp = true\n"), root=root)
    assert code == EXIT_GOOD
    assert text.startswith("# warning: ")
    assert "did you mean `mem_agent_memcg_swap`?; it is passed over" in text


def test_a_corrupted_file_of_pushed_settings_is_told_and_left_alone(root: str) -> None:
    path = pushed(root, Pushed())
    with open(path, "wb") as file:
        file.write(b"{")
    code, text = check(None, root=root)
    assert code == EXIT_GOOD
    (warning,) = comments_of(text)
    assert warning.startswith(f"what was pushed is not shown: {path}: not what memreact wrote")
    assert os.listdir(os.path.dirname(path)) == ["pushed"]


def test_pushed_settings_that_cannot_be_read_are_told(root: str) -> None:
    os.makedirs(f"{root}/run/memreact/pushed")
    (warning,) = comments_of(check(None, root=root)[1])
    assert warning.startswith("what was pushed is not shown: ")


def test_what_has_no_effect_in_a_poor_guest_is_told(tmp_path: Path, guest: FakeGuest) -> None:
    full_guest(guest).loses("/sys/kernel/mm/lru_gen/enabled")
    guest.shows("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    mine = write(tmp_path, MINE)
    assert comments_of(check(mine, root=guest.root)[1]) == [
        "[memcg] has no effect here: no multi-gen LRU, and memory.reclaim is not asked for",
        "memcg.swap = true has no effect here: this guest has no swap",
        "memcg.cgroup[/a/b 0,1]: this guest has no node 1",
    ]


def test_a_multi_gen_lru_that_is_off_is_switched_on_and_not_warned_of(
    tmp_path: Path, guest: FakeGuest
) -> None:
    full_guest(guest, mglru="0x0000\n")
    assert comments_of(check(write(tmp_path, ""), root=guest.root)[1]) == []


def test_without_root_nothing_is_said_of_what_root_may(tmp_path: Path, guest: FakeGuest) -> None:
    full_guest(guest).shows("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0\n")
    assert comments_of(check(write(tmp_path, ""), root=guest.root)[1]) == []


POOR = with_keys(ABLE, nodes=(0,), swap=False)
IDLE = "nobody is at home"


@pytest.mark.parametrize(
    ("text", "can", "idle", "warnings"),
    [
        ("[memcg]\nswap = true", ABLE, None, []),
        ("", POOR, IDLE, [f"[memcg] has no effect here: {IDLE}"]),
        ("[memcg]\ndisabled = true", POOR, IDLE, []),
        (
            "[memcg]\ndisabled = true\n[[memcg.cgroup]]\npath = '/a'\ndisabled = false",
            POOR,
            IDLE,
            [f"[memcg] has no effect here: {IDLE}"],
        ),
        (
            "[[memcg.cgroup]]\npath = '/a'\nnuma = [0, 7]\nswap = true",
            POOR,
            None,
            [
                "memcg.cgroup[/a 0,7].swap = true has no effect here: this guest has no swap",
                "memcg.cgroup[/a 0,7]: this guest has no node 7",
            ],
        ),
        (
            "[reclaim]\nwithout_mglru = 'memory.reclaim'",
            ABLE,
            None,
            ["reclaim.without_mglru has no effect here: this kernel has the multi-gen LRU"],
        ),
        (
            "[reclaim]\nwithout_mglru = 'memory.reclaim'",
            with_keys(ABLE, mglru="absent"),
            None,
            [],
        ),
    ],
)
def test_what_this_guest_has_no_use_for_is_pointed_out(
    text: str, can: Capabilities, idle: str | None, warnings: list[str]
) -> None:
    config = overlay(DEFAULTS, load_text(text, "F"))
    assert list(without_effect_here(config, can, idle)) == warnings


def test_the_answer_with_its_warnings_is_still_toml(tmp_path: Path) -> None:
    code, text = check(write(tmp_path, "[memcg]\nswappiness_max = 60\n"))
    assert code == EXIT_GOOD
    assert text.startswith("# warning: memcg.swappiness_max has no effect")
    assert tomli.loads(text) == {"memcg": {"swappiness_max": 60}}


def test_a_file_whose_name_has_a_newline_cannot_break_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "a\nb.toml"
    file.write_text("[memcg]\nswap = true\n")
    assert tomli.loads(check(str(file))[1]) == {"memcg": {"swap": True}}


def test_a_path_of_odd_characters_is_written_as_toml_reads_it(tmp_path: Path) -> None:
    odd = '/a b/"q"\\x2d/\t\x1b\x7f/é'
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[memcg.cgroup]]\nswap = true\npath = "/a b/\\"q\\"\\\\x2d/\\t\\u001b\\u007f/é"\n'
    )
    (entry,) = tomli.loads(check(str(mine))[1])["memcg"]["cgroup"]
    assert entry == {"path": odd, "swap": True}


@pytest.mark.parametrize("show_all", [False, True])
@given(config=configs)
def test_what_is_printed_reads_back_as_the_same_settings(config: Config, *, show_all: bool) -> None:
    base = Layer(DEFAULT_ORIGIN, DEFAULTS)
    settings = settle([base, Layer("mine\n", config)])
    again = load_text(printed(settings, show_all=show_all), "printed")
    back = settle([base, Layer("printed", again)])
    assert back.config == settings.config
    assert back.rules == settings.rules


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[memcg]\nswappiness_max = 60", "memcg.swappiness_max has no effect"),
        ("[reclaim]\npercent_per_period = 1", "reclaim.percent_per_period has no effect"),
        (
            "[swap]\nmax_promotion_percent_per_min = 0",
            "swap.max_promotion_percent_per_min has no effect while memcg.swap = false",
        ),
        (
            "[compact]\ndisabled = true\ncompact_order = 9",
            "compact.compact_order has no effect while compact.disabled = true",
        ),
        (
            '[compact]\ncompact_threshold = 9\n[compact_policy]\nrule = "gain"',
            'compact.compact_threshold has no effect while compact_policy.rule = "gain"',
        ),
        (
            "[control]\nvsock = false\nttrpc_port = 1024",
            "control.ttrpc_port has no effect while control.vsock = false",
        ),
        ("[control]\nttrpc_port = 1050", "control.ttrpc_port is control.varlink_port too"),
        (
            "[[memcg.cgroup]]\npath = '/a'\ndisabled = true\nperiod_secs = 9",
            "memcg.cgroup[/a].period_secs has no effect on a disabled cgroup",
        ),
        (
            "[[memcg.cgroup]]\npath = '/init.scope'\nswap = true",
            "memcg.cgroup[/init.scope].swap has no effect on a disabled cgroup",
        ),
        (
            "[[memcg.cgroup]]\npath = '/a'\nswappiness_max = 60",
            "memcg.cgroup[/a].swappiness_max has no effect while swap = false",
        ),
        ("[[memcg.cgroup]]\npath = '/a'", "memcg.cgroup[/a] says nothing"),
        (
            "[[memcg.cgroup]]\npath = '/sys/fs/cgroup/a'\nswap = false",
            (
                "memcg.cgroup[/sys/fs/cgroup/a]: a path begins at the top of the cgroup tree, "
                "without /sys/fs/cgroup"
            ),
        ),
        (
            "[[memcg.cgroup]]\npath = '/a/*'\nswap = false",
            "memcg.cgroup[/a/*]: a path is one cgroup and those below it, * is no wildcard",
        ),
        (
            "[memcg]\neviction_run_aging_count_min = 0",
            "memcg.eviction_run_aging_count_min = 0 takes what was in use a moment ago for cold",
        ),
        ("[[memcg.cgroup]]\npath = '/a//b'\nswap = true", "memcg.cgroup[/a//b]: no cgroup has"),
        (
            (
                "[[memcg.cgroup]]\npath = '/a'\nnuma = [1]\nswap = true\n"
                "[[memcg.cgroup]]\npath = '/a'\nnuma = [1, 2]\nswap = true"
            ),
            "memcg.cgroup[/a 1,2]: another entry of this path already speaks of node 1",
        ),
    ],
)
def test_what_is_said_in_vain_is_pointed_out(text: str, warning: str) -> None:
    (found,) = warnings_of(text)
    assert found.startswith(warning)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[memcg]\nswap = true\nswappiness_max = 60",
        "[memcg]\nswap = true\n[swap]\nmax_promotion_percent_per_min = 0",
        "[reclaim]\nwithout_mglru = 'memory.reclaim'\npercent_per_period = 1",
        "[[memcg.cgroup]]\npath = '/a'\nswap = true\nswappiness_max = 60",
        "[memcg]\nswappiness_max = 60\n[[memcg.cgroup]]\npath = '/a'\nswap = true",
        "[memcg]\ndisabled = true\n[[memcg.cgroup]]\npath = '/a'\ndisabled = false\nswap = true",
        "[[memcg.cgroup]]\npath = '/init.scope'\ndisabled = false\nfloor_bytes = 1",
        "[[memcg.cgroup]]\npath = '/a'\nno_subdir = true\ndisabled = true",
    ],
)
def test_what_has_an_effect_is_not_warned_of(text: str) -> None:
    assert warnings_of(text) == []
