"""Settings files, read and merged, each key with its origin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.settings.boot import BOOT_ORIGIN
from memreact.settings.errors import SettingsError
from memreact.settings.files import (
    DROP_INS,
    FILES,
    KATA_FILE,
    files_watched,
    load,
    load_file,
    load_text,
)
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, entry_key, merge, said, settle
from memreact.settings.tables import config_from
from memreact_schemas.config import (
    DEFAULTS,
    NEVER,
    CgroupEntry,
    Compact,
    CompactPolicy,
    Config,
    Memcg,
)

VENDOR, ADMIN = FILES


def write(root: Path, path: str, text: str) -> str:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def booted(root: Path, line: str) -> None:
    write(root, "/proc/cmdline", line + "\n")


def test_a_machine_without_any_file_has_the_defaults(tmp_path: Path) -> None:
    settings = load(root=str(tmp_path))
    assert settings.config == DEFAULTS
    assert settings.revision == settings.rules.revision == 1
    assert set(settings.origins.values()) == {DEFAULT_ORIGIN}


def test_the_admins_file_lies_over_the_vendors_and_drop_ins_over_both(tmp_path: Path) -> None:
    vendor = write(tmp_path, VENDOR, "[memcg]\nswap = true\nperiod_secs = 10\nswappiness_max = 1\n")
    admin = write(tmp_path, ADMIN, "[memcg]\nperiod_secs = 20\nswappiness_max = 2\n")
    late = write(tmp_path, f"{DROP_INS}/20-late.toml", "[memcg]\nswappiness_max = 4\n")
    early = write(tmp_path, f"{DROP_INS}/10-early.toml", "[memcg]\nswappiness_max = 3\n[log]\n")
    settings = load(root=str(tmp_path))
    memcg = settings.config.memcg
    assert (memcg.swap, memcg.period_secs, memcg.swappiness_max) == (True, 20, 4)
    assert settings.origins["memcg.swap"] == vendor
    assert settings.origins["memcg.period_secs"] == admin
    assert settings.origins["memcg.swappiness_max"] == late
    assert settings.origins["memcg.disabled"] == DEFAULT_ORIGIN
    assert early not in settings.origins.values()


def test_katas_files_lie_over_ours_and_the_kernel_command_line_over_all(tmp_path: Path) -> None:
    keys = ["swappiness_max", "period_secs", "period_psi_percent_limit", "swap"]
    ours = [f"{key} = {value}" for key, value in zip(keys, (1, 1, 1, "true"), strict=True)]
    late = write(tmp_path, f"{DROP_INS}/99.toml", "\n".join(["[memcg]", *ours]))
    theirs = "[agent.kata.mem_agent]\nmemcg_swappiness_max = 2\nmemcg_period_secs = 2\n"
    runtime = write(tmp_path, KATA_FILE, theirs + "memcg_period_psi_percent_limit = 2\n")
    agents = "mem_agent_memcg_swappiness_max = 3\nmem_agent_memcg_period_secs = 3\n"
    agent = write(tmp_path, "/etc/agent.toml", agents)
    booted(tmp_path, "agent.config_file=/etc/agent.toml memreact.memcg.swappiness_max=4")
    settings = load(root=str(tmp_path))
    memcg = settings.config.memcg
    assert (memcg.swappiness_max, memcg.period_secs) == (4, 3)
    assert (memcg.period_psi_percent_limit, memcg.swap) == (2, True)
    origins = [settings.origins[f"memcg.{key}"] for key in keys]
    assert origins == [BOOT_ORIGIN, agent, runtime, late]
    assert settings.warnings == ()


def test_which_file_of_katas_disabled_us_is_told(tmp_path: Path) -> None:
    write(tmp_path, ADMIN, "[memcg]\ndisabled = false\n")
    runtime = write(tmp_path, KATA_FILE, "[agent.kata.mem_agent]\nmem_agent_enable = false\n")
    settings = load(root=str(tmp_path))
    assert settings.rules.base.disabled
    assert settings.config.compact.disabled
    assert settings.origins["memcg.disabled"] == settings.origins["compact.disabled"] == runtime


def test_a_kata_file_is_not_ours_but_for_the_mem_agents_part(tmp_path: Path) -> None:
    write(tmp_path, KATA_FILE, "[memcg]\nanything = 1\n[agent.other]\nmem_agent = 7\n")
    assert load(root=str(tmp_path)).config == DEFAULTS
    write(tmp_path, KATA_FILE, "[agent.kata.mem_agent]\nmemcg_swappiness_max = 201\n")
    with pytest.raises(SettingsError, match="expected a whole number from 0 to 200"):
        load(root=str(tmp_path))


def test_an_explicit_file_may_be_in_katas_form_and_lies_below_the_command_line(
    tmp_path: Path,
) -> None:
    write(tmp_path, KATA_FILE, "[agent.kata.mem_agent]\nmemcg_swap = true\n")
    mine = write(tmp_path, "mine.toml", "mem_agent_memcg_period_secs = 7\n")
    booted(tmp_path, "memreact.memcg.swappiness_max=4 agent.config_file=/absent.toml")
    settings = load(mine, root=str(tmp_path))
    memcg = settings.config.memcg
    assert (memcg.swap, memcg.period_secs, memcg.swappiness_max) == (False, 7, 4)


def test_bad_words_and_an_absent_agents_file_are_warnings_alone(tmp_path: Path) -> None:
    booted(tmp_path, "agent.config_file=/absent.toml memreact.memcg.swap=maybe")
    settings = load(root=str(tmp_path))
    assert settings.config == DEFAULTS
    absent, word = settings.warnings
    assert absent.startswith("kernel command line: agent.config_file names ")
    assert absent.endswith("/absent.toml, which does not exist")
    assert word.startswith("kernel command line: memreact.memcg.swap: found")


def test_options_of_a_newer_kata_are_passed_over_with_a_warning_each(tmp_path: Path) -> None:
    table = "[agent.kata.mem_agent]\nmemcg_swap = true\nmemcg_newer = [1]\n"
    runtime = write(tmp_path, KATA_FILE, table)
    keys = "mem_agent_newest = 1\nmem_agent_memcg_period_secs = 7\n"
    agent = write(tmp_path, "/etc/agent.toml", keys)
    booted(tmp_path, "agent.config_file=/etc/agent.toml")
    settings = load(root=str(tmp_path))
    assert (settings.config.memcg.swap, settings.config.memcg.period_secs) == (True, 7)
    first, second = settings.warnings
    assert first.startswith(f'{runtime}:3: agent.kata.mem_agent: found the unknown key "memcg_new')
    assert second.startswith(f'{agent}:1: found the unknown key "mem_agent_newest"')
    assert second.endswith("; it is passed over")


def test_an_explicit_file_and_a_drop_in_in_katas_form_warn_as_well(tmp_path: Path) -> None:
    mine = write(tmp_path, f"{DROP_INS}/a.toml", "mem_agent_newer = 1\n")
    for settings in (load(root=str(tmp_path)), load(mine, root=str(tmp_path))):
        (warning,) = settings.warnings
        assert warning.startswith(f'{mine}:1: found the unknown key "mem_agent_newer"')


def test_a_command_line_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "proc/cmdline").mkdir(parents=True)
    (warning,) = load(root=str(tmp_path)).warnings
    assert warning.startswith("kernel command line is not read: ")


def test_the_files_to_watch_are_those_that_are_read(tmp_path: Path) -> None:
    root = str(tmp_path)
    booted(tmp_path, "agent.config_file=/etc/agent.toml")
    files = [root + path for path in (*FILES, KATA_FILE, "/etc/agent.toml")]
    assert files_watched(root=root) == (files, [root + DROP_INS])
    assert files_watched("/mine.toml", root=root) == (["/mine.toml"], [])


def test_what_is_not_a_toml_file_among_the_drop_ins_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, f"{DROP_INS}/a.toml.bak", "nonsense")
    write(tmp_path, f"{DROP_INS}/.hidden.toml", "nonsense")
    assert load(root=str(tmp_path)).config == DEFAULTS


def test_a_folder_that_is_called_a_drop_in_is_an_error(tmp_path: Path) -> None:
    (tmp_path / f"{DROP_INS}/a.toml".lstrip("/")).mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"a\.toml: cannot be read: Is a directory"):
        load(root=str(tmp_path))


def test_a_drop_in_folder_that_is_a_file_is_taken_as_absent(tmp_path: Path) -> None:
    write(tmp_path, DROP_INS, "")
    assert load(root=str(tmp_path)).config == DEFAULTS


@pytest.mark.parametrize("word", ["/etc", "/" + "x" * 300, "/broken.toml", "/odd.toml"])
def test_an_agents_file_that_cannot_be_used_is_a_bad_word(tmp_path: Path, word: str) -> None:
    write(tmp_path, "etc/memreact/other", "")
    write(tmp_path, "broken.toml", "[memcg\n")
    write(tmp_path, "odd.toml", "mem_agent_memcg_period_secs = 'soon'\n")
    booted(tmp_path, f"agent.config_file={word} memreact.memcg.swap=true")
    settings = load(root=str(tmp_path))
    assert settings.config.memcg.swap
    (warning,) = settings.warnings
    assert warning.startswith("kernel command line: agent.config_file: ")


def test_an_explicit_file_takes_the_place_of_the_machines(tmp_path: Path) -> None:
    write(tmp_path, ADMIN, "[memcg]\nswap = true\n")
    mine = write(tmp_path, "mine.toml", "[memcg]\nperiod_secs = 7\n")
    settings = load(mine, root=str(tmp_path))
    assert (settings.config.memcg.swap, settings.config.memcg.period_secs) == (False, 7)
    assert settings.rules.base.period_us == 7_000_000


def test_an_explicit_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file") as caught:
        load(str(tmp_path / "absent.toml"))
    assert caught.value.origin == str(tmp_path / "absent.toml")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert load_file(write(tmp_path, "a.toml", "")) == Config()


def test_a_link_that_leads_round_in_a_circle_is_unreadable(tmp_path: Path) -> None:
    loop = tmp_path / "loop.toml"
    os.symlink(loop, loop)
    with pytest.raises(SettingsError, match="cannot be read: Too many levels"):
        load_file(str(loop))


def test_a_drop_in_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / DROP_INS.lstrip("/")
    folder.parent.mkdir(parents=True)
    os.symlink(folder, folder)
    with pytest.raises(SettingsError, match=r"memreact\.toml\.d: cannot be listed: Too many"):
        load(root=str(tmp_path))


def test_a_key_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"push: not taken: .*surrogates"):
        config_from({"\ud800": 1}, "push")


def test_a_path_with_a_nul_names_no_file() -> None:
    with pytest.raises(SettingsError, match="without NUL"):
        load_file("/etc/a\0b")


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    just = write(tmp_path, "just.toml", "#" * (1 << 20))
    over = write(tmp_path, "over.toml", "#" * ((1 << 20) + 1))
    assert load_file(just) == Config()
    with pytest.raises(SettingsError, match="at most 1048576 bytes"):
        load_file(over)


def test_bytes_that_are_not_utf_8_are_pointed_at(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"[memcg]\n# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"a\.toml:2:6: found the byte 0xe9, expected text"):
        load_file(str(file))


def test_entries_of_one_place_are_merged_across_layers_whatever_the_order_of_nodes() -> None:
    lower = load_text("[[memcg.cgroup]]\npath='/a'\nnuma=[2,1]\nswap=true\nperiod_secs=9", "low")
    upper = load_text("[[memcg.cgroup]]\npath='a/'\nnuma=[1,2]\nperiod_secs=8", "high")
    settings = settle([Layer("default", DEFAULTS), Layer("low", lower), Layer("high", upper)], 3)
    (entry,) = (entry for entry in settings.config.memcg.cgroup if entry.path == "/a")
    assert entry == CgroupEntry(path="/a", numa=(1, 2), swap=True, period_secs=8)
    assert settings.origins["memcg.cgroup[/a 1,2].swap"] == "low"
    assert settings.origins["memcg.cgroup[/a 1,2].period_secs"] == "high"
    assert settings.revision == settings.rules.revision == 3


def test_an_own_entry_wakes_a_control_service_and_the_origin_says_who_did(tmp_path: Path) -> None:
    mine = write(tmp_path, "a.toml", '[[memcg.cgroup]]\npath = "/init.scope"\ndisabled = false\n')
    settings = load(mine)
    assert settings.origins["memcg.cgroup[/init.scope].disabled"] == mine
    dbus = CgroupEntry(path="/system.slice/dbus.service")
    assert settings.origins[f"{entry_key(dbus.place)}.disabled"] == DEFAULT_ORIGIN


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (Compact(compact_threshold=2048), "threshold"),
        (Compact(compact_force_times=0), "threshold"),
        (Compact(compact_threshold=1024), "gain"),
        (Compact(compact_force_times=NEVER), "gain"),
        (Compact(compact_order=6, period_secs=9), "gain"),
    ],
)
def test_a_layer_that_sets_what_one_rule_goes_by_has_chosen_that_rule(
    said: Compact, rule: str
) -> None:
    settings = settle([Layer(DEFAULT_ORIGIN, DEFAULTS), Layer("F", Config(compact=said))])
    assert settings.config.compact_policy.rule == rule
    origin = "F" if rule == "threshold" else DEFAULT_ORIGIN
    assert settings.origins["compact_policy.rule"] == origin


def test_a_layer_that_names_the_rule_has_chosen_whatever_else_it_sets() -> None:
    both = Config(
        compact=Compact(compact_threshold=2048), compact_policy=CompactPolicy(rule="gain")
    )
    named = Config(compact_policy=CompactPolicy(rule="gain"))
    unnamed = Config(compact=Compact(compact_threshold=2048))
    default = Layer(DEFAULT_ORIGIN, DEFAULTS)
    for layers in ([Layer("F", both)], [Layer("F", unnamed), Layer("G", named)]):
        assert settle([default, *layers]).config.compact_policy.rule == "gain"
    later = settle([default, Layer("F", named), Layer("G", unnamed)])
    assert later.config.compact_policy.rule == "threshold"
    assert later.origins["compact_policy.rule"] == "G"


def test_every_setting_has_an_origin() -> None:
    settings = settle([Layer(DEFAULT_ORIGIN, DEFAULTS)])
    assert set(settings.origins) == {key for key, _ in said(settings.config)}


def test_the_merge_of_no_layers_says_nothing() -> None:
    assert merge([]) == Config()


layers = st.lists(
    st.builds(
        Layer,
        origin=st.text(max_size=3),
        config=st.builds(
            Config,
            memcg=st.builds(
                Memcg,
                swap=st.none() | st.booleans(),
                period_secs=st.none() | st.integers(1, 9),
                swappiness_max=st.none() | st.integers(0, 9),
            ),
        ),
    ),
    max_size=5,
)


@given(layers)
def test_each_key_has_the_value_of_the_last_layer_that_says_it(stack: list[Layer]) -> None:
    settings = settle([Layer(DEFAULT_ORIGIN, DEFAULTS), *stack])
    for key in ("swap", "period_secs", "swappiness_max"):
        sayers = [layer for layer in stack if getattr(layer.config.memcg, key) is not None]
        last = sayers[-1] if sayers else Layer(DEFAULT_ORIGIN, DEFAULTS)
        assert getattr(settings.config.memcg, key) == getattr(last.config.memcg, key)
        assert settings.origins[f"memcg.{key}"] == last.origin


scraps = st.lists(
    st.sampled_from(
        [
            *("[memcg]", "[[memcg.cgroup]]", "[memcg.cgroup]", "path", "numa", "swap", "=", "["),
            *("]", "{", "}", '"/a"', "'/a'", '"""', "\n", "\n\n", " ", ".", ",", "true", "1e400"),
            *("nan", "-1", "0", "18446744073709551616", "1979-05-27", "#", "\r\n", "\0", "é"),
            *("[pressure]", "window_ms", "[log]", "level", "compact", "compact_order", "auto"),
        ]
    ),
    max_size=30,
).map("".join)


@given(st.text() | scraps)
def test_any_text_loads_or_is_a_settings_error_that_names_its_origin(text: str) -> None:
    try:
        load_text(text, "F")
    except SettingsError as error:
        assert str(error).startswith("F:")  # noqa: PT017  # either outcome is right
        assert error.expected  # noqa: PT017
        assert error.line is None or 1 <= error.line <= text.count("\n") + 1  # noqa: PT017


keys = st.sampled_from(
    [*Config.__struct_fields__, *Memcg.__struct_fields__, *CgroupEntry.__struct_fields__]
)
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64 - 1, 2**64, 1 << 10_000, float("nan"), "auto"])
    | st.floats()
    | st.text(st.characters(), max_size=4)
)
nested = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys | st.text(st.characters(), max_size=20), inner, max_size=4)
    ),
)


@given(st.dictionaries(keys, nested, max_size=3) | nested)
def test_any_nested_value_loads_or_is_a_settings_error(value: object) -> None:
    try:
        config = config_from(value, "push")
    except SettingsError as error:
        assert error.origin == "push"  # noqa: PT017  # either outcome is right
        assert len(str(error)) < 500  # noqa: PT017  # whatever was pushed
    else:
        assert isinstance(config, Config)


def test_a_file_is_bytes_before_it_is_text(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"

    @given(st.binary(max_size=200))
    def any_bytes(data: bytes) -> None:
        file.write_bytes(data)
        try:
            load_file(str(file))
        except SettingsError as error:
            assert str(error).startswith(str(file))  # noqa: PT017  # either outcome is right

    any_bytes()


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "a.toml"
    os.mkfifo(pipe)
    with pytest.raises(SettingsError, match=r"a\.toml: .*expected a plain file"):
        load_file(str(pipe))


def test_a_device_in_place_of_a_file_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"/dev/zero: .*expected a plain file"):
        load_file("/dev/zero")
