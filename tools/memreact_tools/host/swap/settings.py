"""Where the settings of guest swap come from: the command line, Kata's file, what holds else."""

from __future__ import annotations

from collections.abc import Sequence

import tomli

from memreact_tools.host.kata_file import KataFile, Unreadable, standings
from memreact_tools.host.kata_options import (
    BadValue,
    UnknownOption,
    Value,
    option_named,
    toml_value,
)
from memreact_tools.host.swap.sizing import SwapSettings

__all__ = ["DEFAULT_PATH", "swap_settings"]

# Kata's own default, /run/kata-containers/swap, is on a tmpfs nearly everywhere: swap in the very
# memory that it is to save.
DEFAULT_PATH = "/var/lib/memreact/swap"

_NAMES = frozenset(SwapSettings.__dataclass_fields__)


def swap_settings(pairs: Sequence[str], file: KataFile | None = None) -> SwapSettings:
    """Return what holds: a pair over Kata's file, that over the defaults.

    Without a file guest swap counts as enabled, for it was asked for.

    Args:
        pairs: OPTION=VALUE each.
        file: Kata's configuration of the runtime.

    Raises:
        BadValue: A pair is none, or an option does not take a value.
        UnknownOption: An option is none of guest swap's.
        Unreadable: The file has no hypervisor's table.
    """
    values = _values_of(file) if file else _defaults() | {"enable_guest_swap": True}
    values |= dict(_read_pair(pair) for pair in pairs)
    return SwapSettings(
        enable_guest_swap=bool(values["enable_guest_swap"]),
        guest_swap_path=str(values["guest_swap_path"]),
        guest_swap_size_percent=int(values["guest_swap_size_percent"]),
        guest_swap_create_threshold_secs=int(values["guest_swap_create_threshold_secs"]),
    )


def _defaults() -> dict[str, Value]:
    values = {name: option_named(name).default for name in _NAMES}
    return values | {"guest_swap_path": DEFAULT_PATH}


def _values_of(file: KataFile) -> dict[str, Value]:
    if file.form == "agent" or not file.hypervisor:
        raise Unreadable("there is no [hypervisor.NAME] table, where guest swap is set")
    said = {
        each.option.name: _checked(each.option.name, each.value)
        for each in standings(file)
        if each.how == "set" and each.option.name in _NAMES
    }
    return _defaults() | said


def _checked(name: str, value: object) -> Value:
    option = option_named(name)
    if not isinstance(value, (bool, int, str)) or type(value) is not option.kind:
        raise BadValue(f"{name} = {value!r} is no value that it takes")
    if isinstance(value, int) and not isinstance(value, bool) and value < option.low:
        raise BadValue(f"{name} = {value} is less than {option.low}")
    return value


def _read_pair(pair: str) -> tuple[str, Value]:
    name, equals, text = pair.partition("=")
    if not equals:
        raise BadValue(f"{pair!r} is not OPTION=VALUE")
    option = option_named(name.strip())
    if option.name not in _NAMES:
        raise UnknownOption(f"{option.name} has nothing to do with guest swap")
    value: Value = tomli.loads(f"v = {toml_value(option, text.strip())}")["v"]
    return option.name, value
