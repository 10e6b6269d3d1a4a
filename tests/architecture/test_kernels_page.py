"""docs/kernels.md says what the guest tests hold kernels and guests to."""

from __future__ import annotations

from pathlib import Path

from lab.kernels import KERNELS
from tests.goldens import golden_text
from tests.system.rungs import AT_BOOT, KINDS, TRAITS, Kind

PAGE = (Path(__file__).parents[2] / "docs/kernels.md").read_text()


def _tables() -> list[list[list[str]]]:
    """Rows of each table, without its heading."""
    parts = [part for part in PAGE.split("\n\n") if part.startswith("|")]
    cells = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines()]
        for part in parts
    ]
    return [rows[2:] for rows in cells]


def _row_of(kind: Kind) -> list[str]:
    words = " ".join((kind.options.append, *kind.options.devices)).split()
    words += [f"{kind.options.nodes} nodes"] if kind.options.nodes > 1 else []
    words += [] if kind.options.balloon else ["no virtio-balloon"]
    instead = [f"{job}: {by}" for job, by in kind.otherwise.items()]
    return [kind.name, ", ".join(words), ", ".join(instead) or "as usual", kind.idle or "it works"]


def test_the_first_table_tells_in_what_the_kernels_differ() -> None:
    rows = [
        [name, *(by_kernel[kernel] for kernel in KERNELS)] for name, by_kernel in TRAITS.items()
    ]
    assert _tables()[0] == rows


def test_the_second_table_tells_what_is_made_of_each_kind_of_guest() -> None:
    assert _tables()[1] == [_row_of(kind) for kind in KINDS.values()]


def test_kernels_boot_with_the_multi_gen_lru_as_the_page_says() -> None:
    for kernel, how in TRAITS[AT_BOOT].items():
        switches = int(golden_text(f"{kernel}/sys/kernel/mm/lru_gen/enabled"), 16)
        assert ("on" if switches & 1 else "off") == how
