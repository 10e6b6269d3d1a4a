"""Settings on the kernel command line, in our words and in those of Kata's agent, in any order.

    memreact.memcg.period_secs=300   agent.mem_agent_memcg_period_secs=300
                                     agent.mem_agent_enable=0   agent.config_file=/etc/agent.toml

Of several words for one key the last one holds. A bad word is passed over with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from memreact.settings.errors import SettingsError, unknown_key
from memreact.settings.kata import AGENT_PREFIX, ENABLE, KATA_KEYS, KataSettings
from memreact.settings.tables import config_from
from memreact.value import Struct, field
from memreact_schemas.config import Config

__all__ = ["AGENT_FILE_WORD", "BOOT_ORIGIN", "BootSettings", "boot_settings", "value_of"]

BOOT_ORIGIN = "kernel command line"
AGENT_FILE_WORD = "agent.config_file"
_OURS = "memreact."
_KATAS = f"agent.{AGENT_PREFIX}"
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_FRACTION = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,20}")
_SWITCH = {"true": True, "false": False}


class BootSettings(Struct, frozen=True):
    """What the kernel command line says.

    Args:
        config: The keys that it says.
        agent_file: The settings file of Kata's agent; empty where none is named.
        warnings: The words that were passed over, and why.
    """

    config: Config = field(default_factory=Config)
    agent_file: str = ""
    warnings: tuple[str, ...] = ()


def boot_settings(words: Iterable[str]) -> BootSettings:
    """Read what concerns us among the words of the kernel command line.

    Args:
        words: Split as the kernel does, without quotes.
    """
    read = _Words()
    for word in words:
        try:
            read.take(word)
        except SettingsError as error:
            read.warnings.append(f"{error}; the word {_shown(word)} is passed over")
    return read.settings()


class _Words(Struct):
    """What the words up to here say."""

    found: KataSettings = field(default_factory=KataSettings)
    on: bool = True
    agent_file: str = ""
    warnings: list[str] = field(default_factory=list)

    def take(self, word: str) -> None:
        name, _, text = word.partition("=")
        if not name.startswith((_OURS, _KATAS)) and name != AGENT_FILE_WORD:
            return
        if word.count("=") != 1:
            raise SettingsError(BOOT_ORIGIN, "one = between name and value", key=name)
        if name == AGENT_FILE_WORD:
            self.agent_file = _absolute(text)
        elif name == _KATAS + ENABLE:
            self.on = _enabled(text)
        else:
            key = _katas_key(name) if name.startswith(_KATAS) else _our_key(name)
            self.found.say(key, value_of(key, text, BOOT_ORIGIN, name), (name,))

    def settings(self) -> BootSettings:
        self.found.switch(on=self.on, path=(_KATAS + ENABLE,))
        config = config_from(self.found.tables, BOOT_ORIGIN)
        return BootSettings(config, self.agent_file, tuple(self.warnings))


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise SettingsError(BOOT_ORIGIN, "an absolute path", key=AGENT_FILE_WORD)
    return text


def _enabled(text: str) -> bool:
    if _WHOLE.fullmatch(text):
        return int(text) != 0
    if text not in _SWITCH:
        raise SettingsError(
            BOOT_ORIGIN, "true, false or a whole number", found=_shown(text), key=_KATAS + ENABLE
        )
    return _SWITCH[text]


def _katas_key(name: str) -> tuple[str, str]:
    key = KATA_KEYS.get(name.removeprefix(_KATAS))
    if key is None:
        known = [_KATAS + each for each in (ENABLE, *KATA_KEYS)]
        raise unknown_key((name,), known, BOOT_ORIGIN, "")
    return key


def _our_key(name: str) -> tuple[str, str]:
    table, _, key = name.removeprefix(_OURS).partition(".")
    return table, key


def value_of(key: tuple[str, str], text: str, origin: str, name: str) -> object:
    """Read a word as what it looks like, a switch or a number, or else as text.

    Args:
        key: Whose value it is: its table, and its name there.
        text: The word.
        origin: Named in the error.
        name: How the key was called.

    Raises:
        SettingsError: The key takes neither.
    """
    value = _looks_like(text)
    try:
        _check(key, value, origin, name)
    except SettingsError:
        with suppress(SettingsError):  # "842" is the name of an algorithm
            _check(key, text, origin, name)
            return text
        raise
    return value


def _check(key: tuple[str, str], value: object, origin: str, name: str) -> None:
    table, bare = key
    config_from({table: {bare: value} if bare else value}, origin, "", {key: (name,)})


def _looks_like(text: str) -> object:
    if text in _SWITCH:
        return _SWITCH[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def _shown(text: str) -> str:
    shown = f"{text[:60]}…" if len(text) > 60 else text  # noqa: PLR2004  # as an error shows text
    return f'"{shown}"' if shown.isprintable() else ascii(shown)
