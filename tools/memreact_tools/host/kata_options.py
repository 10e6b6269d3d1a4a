"""Kata's options that have to do with a guest's memory, as its configuration.toml has them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "MEM_AGENT",
    "OPTIONS",
    "BadValue",
    "Option",
    "UnknownOption",
    "Value",
    "near",
    "option_named",
    "toml_value",
]

Value: TypeAlias = bool | int | str

MEM_AGENT = ("agent", "kata", "mem_agent")
_PREFIX = "mem_agent_"
_I64_MAX = 2**63 - 1  # Kata's parser knows no larger number
_U8_MAX = 255


class UnknownOption(ValueError):  # noqa: N818  # reads as what happened
    """No option has this name."""


class BadValue(ValueError):  # noqa: N818  # reads as what happened
    """An option does not take this value."""


class Option(NamedTuple):
    """One option.

    Args:
        name: In the runtime's file.
        owner: Whose table it stands in.
        kind: What its value is.
        default: What holds where it is not said.
        low: Least value of a number.
        high: Greatest value of a number.
    """

    name: str
    owner: Literal["mem_agent", "hypervisor"]
    kind: type[bool | int | str]
    default: Value
    low: int = 0
    high: int = _I64_MAX

    @property
    def agent_file_name(self) -> str:
        """Its name in the file that an agent reads in the guest."""
        return self.name if self.name.startswith(_PREFIX) else _PREFIX + self.name


_FOR_EVER = _I64_MAX

OPTIONS = (
    Option("mem_agent_enable", "mem_agent", bool, default=False),
    Option("memcg_disable", "mem_agent", bool, default=False),
    Option("memcg_swap", "mem_agent", bool, default=False),
    Option("memcg_swappiness_max", "mem_agent", int, 50, high=200),
    Option("memcg_period_secs", "mem_agent", int, 600, low=1),
    Option("memcg_period_psi_percent_limit", "mem_agent", int, 1, high=100),
    Option("memcg_eviction_psi_percent_limit", "mem_agent", int, 1, high=100),
    Option("memcg_eviction_run_aging_count_min", "mem_agent", int, 3),
    Option("compact_disable", "mem_agent", bool, default=False),
    Option("compact_period_secs", "mem_agent", int, 600, low=1),
    Option("compact_period_psi_percent_limit", "mem_agent", int, 1, high=100),
    Option("compact_psi_percent_limit", "mem_agent", int, 5, high=100),
    Option("compact_sec_max", "mem_agent", int, 180, low=-(2**63)),
    Option("compact_order", "mem_agent", int, 9, high=_U8_MAX),
    Option("compact_threshold", "mem_agent", int, 1024),
    Option("compact_force_times", "mem_agent", int, _FOR_EVER),
    Option("reclaim_guest_freed_memory", "hypervisor", bool, default=False),
    Option("enable_guest_swap", "hypervisor", bool, default=False),
    Option("guest_swap_path", "hypervisor", str, "/run/kata-containers/swap"),
    Option("guest_swap_size_percent", "hypervisor", int, 100),
    Option("guest_swap_create_threshold_secs", "hypervisor", int, 60),
)

_BY_NAME = {option.name: option for option in OPTIONS}
_BY_NAME |= {option.agent_file_name: option for option in OPTIONS if option.owner == "mem_agent"}
_BY_NAME["enable"] = _BY_NAME["mem_agent_enable"]  # its other name in the runtime's file


def option_named(name: str) -> Option:
    """Return the option of a name, with or without mem_agent_ before it.

    Raises:
        UnknownOption: There is none; says which one may have been meant.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    meant = near(name)
    hint = f"did you mean {meant}?" if meant else f"there are {', '.join(_BY_NAME)}"
    raise UnknownOption(f"no option is named {name!r}: {hint}")


def near(name: str, *, cutoff: float = 0.6) -> str | None:
    """Return the option's name that is most like a misspelt one."""
    found = get_close_matches(name, _BY_NAME, n=1, cutoff=cutoff)
    return found[0] if found else None


def toml_value(option: Option, text: str) -> str:
    """Write what was given for an option as TOML.

    Raises:
        BadValue: The option does not take it; says what it takes.
    """
    if option.kind is bool:
        if text not in ("true", "false"):
            raise BadValue(f"{option.name} is true or false, not {text!r}")
        return text
    if option.kind is int:
        return str(_number(option, text))
    if not text.startswith("/") or not text.isprintable():
        raise BadValue(f"{option.name} is an absolute path, not {text!r}")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _number(option: Option, text: str) -> int:
    try:
        number = int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        number = None
    if number is not None and option.name == "compact_force_times" and _I64_MAX < number < 2**64:
        return _I64_MAX  # means never, like 2^64-1, which Kata's parser refuses
    if number is None or not option.low <= number <= option.high:
        expected = f"a whole number from {option.low} to {option.high}"
        raise BadValue(f"{option.name} is {expected}, not {text!r}")
    return number
