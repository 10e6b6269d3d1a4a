"""Kata's names for the same settings: its runtime's table, its agent's file, its boot words.

    its runtime's file, [agent.kata.mem_agent]  memcg_swap            mem_agent_enable, enable
    its agent's file, outside of all tables     mem_agent_memcg_swap  mem_agent_enable
    the kernel command line                     agent.mem_agent_memcg_swap=  agent.mem_agent_enable=

What else those files say is not ours, and is not looked at. An option of the mem-agent's that we
do not know may be of a newer Kata than we are: it is passed over with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from memreact.settings.errors import KeyPath, unknown_key, wrong_value
from memreact.value import Struct, field
from memreact_schemas.config import Compact, Config, MemcgKeys

__all__ = ["AGENT_PREFIX", "ENABLE", "KATA_KEYS", "KataSettings", "is_kata", "kata_settings"]

AGENT_PREFIX = "mem_agent_"
ENABLE = "enable"
_RUNTIME_TABLE = ("agent", "kata", "mem_agent")
# What an explicit "no" to the whole says in our words.
_OFF = (("memcg", "disabled"), ("compact", "disabled"))


def _names() -> Iterator[tuple[str, tuple[str, str]]]:
    for table, struct in (("memcg", MemcgKeys), ("compact", Compact)):
        for key in struct.__struct_fields__:
            if key == "disabled":
                yield f"{table}_disable", (table, key)
            else:
                yield key if key.startswith(f"{table}_") else f"{table}_{key}", (table, key)


# Its runtime's name of an option, and the table and key that are ours.
KATA_KEYS = dict(_names())


class KataSettings(Struct):
    """What was found, in our words.

    Args:
        tables: Our tables, unchecked.
        written: Where each key stands in its own file.
        warnings: What was passed over.
    """

    tables: dict[str, dict[str, object]] = field(default_factory=dict)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def say(self, key: tuple[str, str], value: object, path: KeyPath) -> None:
        """Set one of our keys."""
        self.tables.setdefault(key[0], {})[key[1]] = value
        self.written[key] = path

    def switch(self, *, on: bool, path: KeyPath) -> None:
        """Follow the switch of the whole: "on" says no more than the rest of the file does."""
        if not on:
            for key in _OFF:
                self.say(key, value=True, path=path)


def is_kata(value: dict[str, object]) -> bool:
    """Whether a parsed file is one of Kata's, and none of ours."""
    if any(table in value for table in Config.__struct_fields__):
        return False
    return _at(value, _RUNTIME_TABLE[:2]) is not None or any(
        key.startswith(AGENT_PREFIX) for key in value
    )


def kata_settings(value: dict[str, object], origin: str, text: str) -> KataSettings:
    """Take what concerns us out of one of Kata's parsed files.

    Args:
        value: The file's tables.
        origin: Named in an error.
        text: The file's text, to tell the line.

    Raises:
        SettingsError: No table or no switch where one belongs.
    """
    found = KataSettings()
    runtime = _at(value, _RUNTIME_TABLE[:2]) or {}
    table = runtime.get(_RUNTIME_TABLE[2], {})
    if not isinstance(table, dict):
        raise wrong_value(_RUNTIME_TABLE, table, "a table", origin, text)
    for path, name, each in _mem_agent_keys(value):
        if name == ENABLE:
            continue
        if name in KATA_KEYS:
            found.say(KATA_KEYS[name], each, path)
        else:
            unknown = unknown_key(path, _known_beside(path), origin, text)
            found.warnings.append(f"{unknown}; it is passed over")
    for path, name, each in _mem_agent_keys(value):
        if name == ENABLE:
            if not isinstance(each, bool):
                raise wrong_value(path, each, "true or false", origin, text)
            found.switch(on=each, path=path)
    return found


def _known_beside(path: KeyPath) -> list[str]:
    """List the options as they are spelt where one stands."""
    in_runtime = len(path) > 1
    names = KATA_KEYS if in_runtime else [AGENT_PREFIX + name for name in KATA_KEYS]
    return [AGENT_PREFIX + ENABLE, *names]


def _mem_agent_keys(value: dict[str, object]) -> Iterator[tuple[KeyPath, str, object]]:
    """List keys with their path and their name in the runtime's file."""
    table = _at(value, _RUNTIME_TABLE)
    for key, each in (table or {}).items():
        name = ENABLE if key == AGENT_PREFIX + ENABLE else key
        yield (*_RUNTIME_TABLE, key), name, each
    for key, each in value.items():
        if key.startswith(AGENT_PREFIX):
            yield (key,), key.removeprefix(AGENT_PREFIX), each


def _at(value: object, path: tuple[str, ...]) -> dict[str, object] | None:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None
