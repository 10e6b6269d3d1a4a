"""The page of options, and that each option does what the page says, in each of its forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memreact.control.store import SettingsStore
from memreact.rules import Rules, rules_from
from memreact.run_dir import PushedFile
from memreact.settings.files import DROP_INS, FILES, KATA_FILE, load, read_layers
from memreact.settings.layers import Settings
from memreact.settings.options import Option, entry_options, options, page
from memreact.settings.tables import config_from
from memreact_schemas.config import DEFAULTS, Config, MemcgKeys

PAGE = Path(__file__).parents[3] / "docs/options.md"

# Another value than the default for each option.
OTHER: dict[str, object] = {
    "memcg.disabled": True,
    "memcg.swap": True,
    "memcg.swappiness_max": 60,
    "memcg.period_secs": 300,
    "memcg.period_psi_percent_limit": 2,
    "memcg.eviction_psi_percent_limit": 2.5,
    "memcg.eviction_run_aging_count_min": 5,
    "compact.disabled": True,
    "compact.period_secs": 120,
    "compact.period_psi_percent_limit": 2,
    "compact.compact_psi_percent_limit": 6,
    "compact.compact_sec_max": 300,
    "compact.compact_order": 6,
    "compact.compact_threshold": 2048,
    "compact.compact_force_times": 2**63 - 1,
    "compact_policy.rule": "threshold",
    "pressure.system_psi_percent_limit": 20,
    "pressure.window_ms": 2000,
    "pressure.resume": "quiet",
    "reclaim.without_mglru": "memory.reclaim",
    "reclaim.percent_per_period": 3,
    "reclaim.beside_others": True,
    "swap.device_wait_secs": 9,
    "swap.max_promotion_percent_per_min": 0.5,
    "swap.zram_percent": 50,
    "swap.zram_algorithm": "zstd",
    "control.vsock": False,
    "control.varlink_port": 2050,
    "control.ttrpc_port": 1024,
    "control.metrics_port": 2052,
    "control.allow_guest": True,
    "control.group": "adm",
    "control.metrics_tcp_port": 9752,
    "control.metrics_cgroups": 20,
    "log.level": "debug",
    "log.decisions": 64,
    "log.flight_kib": 1024,
    "log.flight_minutes": 5,
    "log.flight_files": 1,
}
# What an option says of another one, unless that is said too.
CHOOSES = {"compact.compact_threshold": ("compact_policy.rule",)}
FOR_THE_POLICY: dict[str, Callable[[Rules], object]] = {
    "memcg.disabled": lambda rules: rules.base.disabled,
    "memcg.swap": lambda rules: rules.base.swap,
    "memcg.swappiness_max": lambda rules: rules.base.swappiness_max,
    "memcg.period_secs": lambda rules: rules.base.period_us // 1_000_000,
    "memcg.period_psi_percent_limit": lambda rules: rules.base.period_limit_ppm / 10_000,
    "memcg.eviction_psi_percent_limit": lambda rules: rules.base.eviction_limit_ppm / 10_000,
    "memcg.eviction_run_aging_count_min": lambda rules: rules.base.aging_count_min,
    "compact.disabled": lambda rules: rules.compact.disabled,
    "compact.period_secs": lambda rules: rules.compact.period_us // 1_000_000,
    "compact.period_psi_percent_limit": lambda rules: rules.compact.period_limit_ppm / 10_000,
    "compact.compact_psi_percent_limit": lambda rules: rules.compact.limit_ppm / 10_000,
    "compact.compact_sec_max": lambda rules: rules.compact.longest_us // 1_000_000,
    "compact.compact_order": lambda rules: rules.compact.order or "auto",
    "compact.compact_threshold": lambda rules: rules.compact.threshold_pages,
    "compact_policy.rule": lambda rules: "gain" if rules.compact.by_gain else "threshold",
    "pressure.system_psi_percent_limit": lambda rules: rules.system_limit_ppm / 10_000,
    "pressure.window_ms": lambda rules: rules.window_us // 1000,
    "pressure.resume": lambda rules: "quiet" if rules.resume_quiet else "period",
    "reclaim.without_mglru": lambda rules: (
        "memory.reclaim" if rules.reclaim_without_mglru else "off"
    ),
    "reclaim.percent_per_period": lambda rules: rules.reclaim_ppm_per_period / 10_000,
    "reclaim.beside_others": lambda rules: rules.beside_others,
    "swap.max_promotion_percent_per_min": lambda rules: rules.promotion_limit_ppm_per_min / 10_000,
    "log.level": lambda rules: rules.log_level,
    "log.decisions": lambda rules: rules.decisions_kept,
}
OPTIONS = options()
KATAS = [option for option in OPTIONS if option.in_runtime]
every = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
every_katas = pytest.mark.parametrize("option", KATAS, ids=lambda option: option.name)


def toml(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower()


def write(root: Path, path: str, text: str) -> str:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def default_of(option: Option) -> object:
    return getattr(getattr(DEFAULTS, option.table), option.key)


def sees(settings: Settings, option: Option, origin: str) -> None:
    """The option's other value is in force, and nothing else differs from the defaults."""
    other = OTHER[option.name]
    assert getattr(getattr(settings.config, option.table), option.key) == other
    assert settings.origins[option.name] == origin
    assert settings.warnings == ()
    differing = {key for key, value in settings.origins.items() if value != "default"}
    assert differing == {option.name, *CHOOSES.get(option.name, ())}
    if option.name in FOR_THE_POLICY:
        read = FOR_THE_POLICY[option.name]
        assert (read(settings.rules), read(rules_from(DEFAULTS))) == (other, default_of(option))


def test_the_page_is_what_the_options_are() -> None:
    assert PAGE.read_text() == page(), "run: python -m memreact.settings.options > docs/options.md"


def test_every_option_is_tested_with_another_value_than_its_default() -> None:
    assert [option.name for option in OPTIONS] == list(OTHER)
    assert not [option.name for option in OPTIONS if default_of(option) == OTHER[option.name]]
    not_its = {option.name for option in OPTIONS if option.table == "control"}
    not_its |= {"log.flight_kib", "log.flight_minutes", "log.flight_files"}
    not_its |= {"swap.device_wait_secs", "swap.zram_percent", "swap.zram_algorithm"}
    # Both of its values here mean never; how counts cross over is told in test_rules.py.
    not_its.add("compact.compact_force_times")
    assert set(OTHER) - not_its == set(FOR_THE_POLICY)


@pytest.mark.parametrize("option", [*OPTIONS, *entry_options()], ids=lambda option: option.name)
def test_every_option_has_values_a_meaning_and_a_time_at_which_a_change_acts(
    option: Option,
) -> None:
    assert option.values
    assert option.meaning
    assert option.acts
    for text in (option.values, option.meaning, option.acts):
        assert "|" not in text
        assert text in page()


def test_katas_options_are_all_that_its_howto_has() -> None:
    assert len(KATAS) == 15
    assert {option.table for option in KATAS} == {"memcg", "compact"}


@every
@pytest.mark.parametrize("path", [*FILES, f"{DROP_INS}/10.toml"])
def test_it_can_be_set_in_a_file(tmp_path: Path, option: Option, path: str) -> None:
    text = f"[{option.table}]\n{option.key} = {toml(OTHER[option.name])}\n"
    origin = write(tmp_path, path, text)
    sees(load(root=str(tmp_path)), option, origin)


@every_katas
def test_it_can_be_set_in_the_file_of_katas_runtime(tmp_path: Path, option: Option) -> None:
    text = f"[agent.kata.mem_agent]\n{option.in_runtime} = {toml(OTHER[option.name])}\n"
    origin = write(tmp_path, KATA_FILE, text)
    sees(load(root=str(tmp_path)), option, origin)


@every_katas
def test_it_can_be_set_in_the_file_of_katas_agent(tmp_path: Path, option: Option) -> None:
    write(tmp_path, "/proc/cmdline", "agent.config_file=/etc/agent.toml")
    text = f"{option.in_agent} = {toml(OTHER[option.name])}\n"
    origin = write(tmp_path, "/etc/agent.toml", text)
    sees(load(root=str(tmp_path)), option, origin)


@every
def test_it_can_be_set_on_the_kernel_command_line_by_each_of_its_words(
    tmp_path: Path, option: Option
) -> None:
    for word in option.words:
        write(
            tmp_path, "/proc/cmdline", f"quiet {word}={toml(OTHER[option.name])}".replace('"', "")
        )
        sees(load(root=str(tmp_path)), option, "kernel command line")


@every
def test_it_can_be_pushed_and_is_applied_at_once(tmp_path: Path, option: Option) -> None:
    applied: list[Settings] = []
    store = SettingsStore(
        lambda: read_layers(root=str(tmp_path)),
        applied.append,
        PushedFile(str(tmp_path / "pushed")),
    )
    patch = config_from({option.table: {option.key: OTHER[option.name]}}, "host")
    change = store.patch(patch, by="host")
    changed = {each.key: each.before for each in change.changed}
    assert changed.keys() == {option.name, *CHOOSES.get(option.name, ())}
    assert changed[option.name] == default_of(option)
    (settings,) = applied
    sees(settings, option, "pushed by host")
    assert settings is store.settings


@pytest.mark.parametrize("key", MemcgKeys.__struct_fields__)
def test_it_can_be_set_for_a_single_cgroup(tmp_path: Path, key: str) -> None:
    other = OTHER[f"memcg.{key}"]
    write(tmp_path, FILES[1], f"[[memcg.cgroup]]\npath = '/a'\n{key} = {toml(other)}\n")
    settings = load(root=str(tmp_path))
    base, read = settings.rules.base, FOR_THE_POLICY[f"memcg.{key}"]
    (entry,) = (rule.rules for rule in settings.rules.cgroups if rule.path == "/a")
    assert base == rules_from(Config()).base
    assert read(Rules(base=entry)) == other != read(Rules(base=base))
