"""Every option in every form, as a page: `python -m memreact.settings.options` prints it.

Names, defaults, values and meanings are read off the settings structs; only when a change acts is
said here. The daemon imports none of this.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator

from msgspec import Struct

from memreact.settings.errors import values_of
from memreact.settings.kata import AGENT_PREFIX, KATA_KEYS
from memreact_schemas.config import DEFAULTS, CgroupEntry, MemcgKeys

__all__ = ["Option", "entry_options", "options", "page"]

_CALLS = {"memcg": "MemAgentMemcgSet", "compact": "MemAgentCompactSet"}
_NEXT_PLAN = "at once: a turn that runs is planned anew"
_NEXT_WRITE = "at once: a write that runs is broken off, and the next one is by it"
_REARMED = "at once: the triggers of work that runs are armed anew"
_LOOKED_AT_ANEW = (
    "at once: a compaction that runs is broken off, and free memory is looked at by it"
)
_ZRAM_ANEW = "at once, where the guest's memory holds what lies there"
_ACTS = {
    "memcg.disabled": "at once: work that runs is broken off",
    "memcg.swap": _NEXT_WRITE,
    "memcg.swappiness_max": _NEXT_WRITE,
    "memcg.period_secs": "at once: the timer moves",
    "memcg.period_psi_percent_limit": _NEXT_PLAN,
    "memcg.eviction_psi_percent_limit": _REARMED,
    "memcg.eviction_run_aging_count_min": _NEXT_PLAN,
    "memcg.cgroup": _NEXT_PLAN,
    "compact": _LOOKED_AT_ANEW,
    "compact.disabled": "at once: a compaction that runs is broken off",
    "compact.period_secs": "at once: the timer moves",
    "compact_policy": _LOOKED_AT_ANEW,
    "pressure": _REARMED,
    "pressure.resume": "from the next pause on",
    "reclaim": "at once: the guest is looked at anew",
    "reclaim.percent_per_period": _NEXT_PLAN,
    "swap": "from the next call on",
    "swap.max_promotion_percent_per_min": _NEXT_PLAN,
    "swap.zram_percent": _ZRAM_ANEW,
    "swap.zram_algorithm": _ZRAM_ANEW,
    "control": "at once: listeners are opened and closed, and calls refused, by it",
    "log": "at once",
}
_ARGUMENT = re.compile(r" {4}(\w+): (.+)")
_CONTINUED = re.compile(r" {8}(\S.*)")

_INTRODUCTION = """\
# Every option in every form

This page is written by `python -m memreact.settings.options`. What an option is for is told in
[configuration.md](configuration.md); here is what each is called wherever it can be set. Weakest
first:

1. the default;
2. `/usr/lib/memreact/memreact.toml`;
3. `/etc/memreact/memreact.toml`;
4. `/etc/memreact/memreact.toml.d/*.toml`, in the order of their names;
5. Kata's runtime file `/etc/kata-containers/configuration.toml`, of which only the table
   `[agent.kata.mem_agent]` is looked at;
6. the file of Kata's agent that the kernel command line names with `agent.config_file=FILE`, of
   which only the keys that begin with `mem_agent_` are looked at;
7. the kernel command line; of several words for one key the last one holds, and a bad word is
   passed over with a warning;
8. what was pushed by a call, until a reboot or until it is dropped.

A file that is named with `memreact run --config FILE` takes the place of all files. Both of Kata's
forms are understood there too. `mem_agent_enable = false` (in its table also `enable = false`, on
the kernel command line `agent.mem_agent_enable=0`) says `memcg.disabled = true` and
`compact.disabled = true`; `true` says no more than the rest of the file does.

On the kernel command line numbers are plain digits, and a switch is `true` or `false`.
"""


class Option(Struct, frozen=True):
    """One option.

    Args:
        table: Of the settings.
        key: In that table.
        default: As TOML has it; empty where there is none.
        values: Which it takes, in words.
        meaning: What it is for.
        acts: When a change takes effect.
    """

    table: str
    key: str
    default: str
    values: str
    meaning: str
    acts: str

    @property
    def name(self) -> str:
        """As origins and calls of io.memreact name it."""
        return f"{self.table}.{self.key}"

    @property
    def in_runtime(self) -> str:
        """What Kata's runtime calls it; empty where it has no such option."""
        return next((name for name, key in KATA_KEYS.items() if ".".join(key) == self.name), "")

    @property
    def in_agent(self) -> str:
        """What Kata's agent calls it."""
        return self.in_runtime and AGENT_PREFIX + self.in_runtime

    @property
    def words(self) -> tuple[str, ...]:
        """What stands before the = on the kernel command line."""
        katas = (f"agent.{self.in_agent}",) if self.in_agent else ()
        return (f"memreact.{self.name}", *katas)

    @property
    def call(self) -> str:
        """Kata's call that sets it, and its key there."""
        return f"{_CALLS[self.table]} {self.key}" if self.in_runtime else ""


def options() -> list[Option]:
    """List all options, but those of single cgroups."""
    return [
        _option(table, key, getattr(DEFAULTS, table))
        for table in DEFAULTS.__struct_fields__
        for key in getattr(DEFAULTS, table).__struct_fields__
        if key != "cgroup"
    ]


def entry_options() -> list[Option]:
    """List the options that only `[[memcg.cgroup]]` has."""
    keys = [key for key in CgroupEntry.__struct_fields__ if key not in MemcgKeys.__struct_fields__]
    meanings = _arguments(CgroupEntry)
    return [
        Option(
            table="memcg.cgroup",
            key=key,
            default="",
            values=values_of(("memcg", "cgroup", 0, key)),
            meaning=meanings[key],
            acts=_acts("memcg.cgroup", key),
        )
        for key in keys
    ]


def _option(table: str, key: str, values: Struct) -> Option:
    # The keys of [memcg] are told where those of one cgroup are: in the base of both.
    struct = MemcgKeys if table == "memcg" else type(values)
    return Option(
        table=table,
        key=key,
        default=_toml(getattr(values, key)),
        values=values_of((table, key)),
        meaning=_arguments(struct)[key],
        acts=_acts(table, key),
    )


def _acts(table: str, key: str) -> str:
    return _ACTS.get(f"{table}.{key}") or _ACTS[table]


def _arguments(struct: type[Struct]) -> dict[str, str]:
    """Read the `Args` of a docstring."""
    told: dict[str, str] = {}
    for line in inspect.cleandoc(struct.__doc__ or "").splitlines():
        if argument := _ARGUMENT.fullmatch(line):
            told[argument[1]] = argument[2]
        elif (more := _CONTINUED.fullmatch(line)) and told:
            told[next(reversed(told))] += f" {more[1]}"
    return {key: text.removesuffix(".") for key, text in told.items()}


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def page() -> str:
    """Write the page."""
    tables: dict[str, list[Option]] = {}
    for option in options():
        tables.setdefault(option.table, []).append(option)
    parts = [_INTRODUCTION]
    for table, rows in tables.items():
        parts.append(f"## [{table}]\n\n{_meanings(rows)}")
        if table == "memcg":
            parts.append(
                "## [[memcg.cgroup]]\n\nAll keys of `[memcg]`, which hold for one cgroup and what "
                f"is below it, and:\n\n{_meanings(entry_options())}"
            )
    parts.append(f"## The same option in its other forms\n\n{_forms(options())}")
    return "\n".join(parts)


def _meanings(rows: Iterable[Option]) -> str:
    head = ("key", "unless set", "values", "meaning", "a change acts")
    return _table(
        head,
        ((_code(row.key), _code(row.default), row.values, row.meaning, row.acts) for row in rows),
    )


def _forms(rows: Iterable[Option]) -> str:
    head = (
        "key, also for `PatchSettings`",
        "kernel command line",
        "Kata's runtime",
        "Kata's agent",
        "Kata's call",
    )
    return _table(
        head,
        (
            (
                _code(row.name),
                ", ".join(_code(f"{word}=") for word in row.words),
                _code(row.in_runtime),
                _code(row.in_agent),
                _code(row.call),
            )
            for row in rows
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(_lines((head, ("---",) * len(head), *rows)))


def _lines(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    sys.stdout.write(page())
