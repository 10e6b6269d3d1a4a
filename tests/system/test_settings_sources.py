"""Settings of a guest that nobody pushed: its files, Kata's files, its kernel's command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memreact_schemas.config import DEFAULTS
from tests.system.control_guest import AGENT_FILE, BAD_WORD, Answered, Controlled, controlled

FILE = "/etc/memreact/memreact.toml"
DROP_INS = f"{FILE}.d"
KATA_FILE = "/etc/kata-containers/configuration.toml"
BOOT = "kernel command line"


@pytest.fixture(scope="module")
def there(package: Path) -> Iterator[Controlled]:
    """The guest; its memreact is started once, so that all that follows is taken as it runs."""
    with controlled(package) as made:
        yield made


def wait_in_force(there: Controlled, key: str, value: object, origin: str) -> None:
    """Wait until a key has this value from there."""
    table, _, name = key.partition(".")

    def met(said: Answered) -> bool:
        return (said["settings"][table][name], said["origins"].get(key)) == (value, origin)

    there.wait_for("GetSettings", met)


def test_a_drop_in_is_in_force_as_soon_as_it_is_written_until_it_is_gone(
    there: Controlled,
) -> None:
    pid = there.service.pid
    for name, period in (("10-first", 301), ("20-second", 302)):
        there.guest.run(f"mkdir -p {DROP_INS}")
        there.guest.put_bytes(b"[memcg]\nperiod_secs = %d\n" % period, f"{DROP_INS}/{name}.toml")
        wait_in_force(there, "memcg.period_secs", period, f"{DROP_INS}/{name}.toml")
    there.guest.run(f"rm {DROP_INS}/20-second.toml")
    wait_in_force(there, "memcg.period_secs", 301, f"{DROP_INS}/10-first.toml")
    there.guest.run(f"rm -r {DROP_INS}")
    wait_in_force(there, "memcg.period_secs", DEFAULTS.memcg.period_secs, "default")
    assert there.service.pid == pid
    assert "verb=reload" in there.journal()


def test_a_bad_file_keeps_what_is_in_force_and_is_shown_until_it_is_mended(
    there: Controlled,
) -> None:
    bad = f"{DROP_INS}/10-bad.toml"
    there.guest.run(f"mkdir -p {DROP_INS}")
    there.guest.put_bytes(b"[memcg]\nswap = true\nperiod_secs = 0\n", bad)
    said = there.wait_for("GetSettings", lambda said: said["problem"] is not None)
    problem = said["problem"]
    assert (problem["origin"], problem["key"], problem["line"]) == (bad, "memcg.period_secs", 3)
    assert said["settings"]["memcg"]["swap"] is False
    assert bad in there.asked("GetStatus")["status"]["problem"]
    there.guest.run(f"rm -r {DROP_INS}")
    there.wait_for("GetSettings", lambda said: said["problem"] is None)


def test_words_of_the_kernel_command_line_hold_and_a_bad_one_is_told(there: Controlled) -> None:
    settings = there.asked("GetSettings")
    assert settings["settings"]["compact"]["period_secs"] == 900
    assert settings["settings"]["pressure"]["window_ms"] == 2000
    assert settings["origins"]["compact.period_secs"] == BOOT
    assert settings["origins"]["pressure.window_ms"] == BOOT
    name = BAD_WORD.partition("=")[0]
    assert [warning for warning in settings["warnings"] if name in warning]


def test_a_word_of_the_kernel_command_line_is_stronger_than_a_file(there: Controlled) -> None:
    drop_in = f"{DROP_INS}/10-weak.toml"
    there.guest.run(f"mkdir -p {DROP_INS}")
    there.guest.put_bytes(b"[compact]\nperiod_secs = 1\n[memcg]\nswap = true\n", drop_in)
    wait_in_force(there, "memcg.swap", value=True, origin=drop_in)
    assert there.in_force("compact.period_secs") == 900
    there.guest.run(f"rm -r {DROP_INS}")
    wait_in_force(there, "memcg.swap", value=False, origin="default")


def test_kata_s_agent_file_is_read_as_it_is(there: Controlled) -> None:
    file = b'log_level = "debug"\nmem_agent_memcg_period_secs = 400\nmem_agent_memcg_swap = true\n'
    there.guest.put_bytes(file, AGENT_FILE)
    wait_in_force(there, "memcg.period_secs", 400, AGENT_FILE)
    assert there.in_force("memcg.swap") is True
    there.guest.put_bytes(b"mem_agent_enable = false\n", AGENT_FILE)
    wait_in_force(there, "memcg.disabled", value=True, origin=AGENT_FILE)
    assert there.in_force("compact.disabled") is True
    there.guest.run(f"rm {AGENT_FILE}")
    wait_in_force(there, "memcg.disabled", value=False, origin="default")


def test_kata_s_runtime_file_is_read_as_it_is(there: Controlled) -> None:
    file = b"[runtime]\nsandbox = true\n[agent.kata.mem_agent]\nmemcg_period_secs = 401\n"
    there.guest.run("mkdir -p /etc/kata-containers")
    there.guest.put_bytes(file, KATA_FILE)
    wait_in_force(there, "memcg.period_secs", 401, KATA_FILE)
    there.guest.run(f"rm {KATA_FILE}")
    wait_in_force(there, "memcg.period_secs", DEFAULTS.memcg.period_secs, "default")


def test_what_was_pushed_is_stronger_than_all_and_survives_a_restart(there: Controlled) -> None:
    patch = {"compact": {"period_secs": 902}, "memcg": {"swappiness_max": 20}}
    there.asked("PatchSettings", patch=patch)
    there.guest.run("systemctl restart memreact.service")
    settings = there.asked("GetSettings")
    assert settings["settings"]["compact"]["period_secs"] == 902
    assert settings["origins"]["memcg.swappiness_max"] == "pushed by root"
    there.asked("DropPushed")
    assert (there.in_force("compact.period_secs"), there.in_force("memcg.swappiness_max")) == (
        900,
        30,
    )


def test_check_shows_the_merged_result_with_origins_and_what_has_no_effect(
    there: Controlled,
) -> None:
    there.asked("PatchSettings", patch={"memcg": {"eviction_psi_percent_limit": 2.5}})
    shown = there.guest.run("memreact check").stdout
    there.asked("DropPushed")
    for line in (
        f"swappiness_max = 30  # {FILE}",
        f"allow_guest = true  # {FILE}",
        "eviction_psi_percent_limit = 2.5  # pushed by root",
        f"period_secs = 900  # {BOOT}",
        f"window_ms = 2000  # {BOOT}",
    ):
        assert line in shown.splitlines()
    warnings = [line for line in shown.splitlines() if line.startswith("# warning: ")]
    assert [line for line in warnings if AGENT_FILE in line]
    assert [line for line in warnings if BAD_WORD.partition("=")[0] in line]
