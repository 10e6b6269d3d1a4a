from __future__ import annotations

from pathlib import Path

import pytest

from lab.bench.rivals import Pace, damon_commands, settings_text, system_ram
from memreact.settings.files import read_layers
from memreact.settings.layers import settle

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-3ffdffff : System RAM
  01000000-01ffffff : Kernel code
  02000000-02ffffff : System RAM
fd000000-fdffffff : PCI Bus 0000:00
"""


def test_memory_is_where_the_kernel_says_and_not_below_it() -> None:
    assert system_ram(IOMEM) == [(0x1000, 0x9FC00), (0x100000, 0x3FFE0000)]


def test_damon_is_switched_on_last_and_looks_at_all_memory() -> None:
    lines = damon_commands(system_ram(IOMEM), 30_000_000, quota=False)
    assert lines[-1].startswith("echo on > ")
    assert any(line.startswith(f"echo {0x3FFE0000} > ") for line in lines)
    assert any(line.startswith("echo 300 > ") and "age/min" in line for line in lines)
    assert not any("quotas" in line for line in lines)


def test_a_quota_is_time_and_bytes_of_each_second() -> None:
    lines = damon_commands([(0, 4096)], 30_000_000, quota=True)
    quotas = [line.split()[1] for line in lines if "quotas" in line]
    assert quotas == ["10", str(128 << 20), "1000"]


@pytest.mark.parametrize("pace", [Pace(), Pace(1, 1, 100, 2_000_000, compacts=False)])
def test_memreact_takes_the_settings_that_it_is_given(pace: Pace, tmp_path: Path) -> None:
    file = tmp_path / "memreact.toml"
    file.write_text(settings_text(pace))
    config = settle(read_layers(str(file), root=str(tmp_path))).config
    assert (config.memcg.period_secs, config.compact.disabled) == (pace.period_s, not pace.compacts)
