"""Lines for journald: a priority, then key=value."""

from __future__ import annotations

import re
from collections.abc import Callable

from memreact.actions import Decision
from memreact.telemetry.line_writer import LineWriter

__all__ = ["Journal", "line_of"]

_STDERR = 2
_BREAKS = re.compile(r'[ "=]')  # what would end a value, or begin another
_PRIORITIES = {"error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
# How loud a verdict is: acted is info, a change of our standing is notice, chose not to is debug.
_LOUD = {"turn": "info", "rules": "info", "pause": "notice", "resume": "notice", "forget": "info"}
_LOUD |= {"hurt": "info", "run": "info", "refuse": "notice", "compact": "info", "compacted": "info"}


class Journal:
    """Writes to stderr, which systemd reads; a terminal gets the same without the priority.

    Args:
        level: The least important that is written.
        under_systemd: Whether lines begin with `<priority>`.
        write: Where lines go, if not to stderr; it neither waits nor fails.
    """

    def __init__(
        self,
        level: str = "info",
        *,
        under_systemd: bool = False,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.level = level
        self._prefix = under_systemd
        self._write = write or LineWriter(_STDERR, under_systemd=under_systemd).write

    def at(self, level: str) -> Journal:
        """A journal that writes to the same place, at a level of its own."""
        return Journal(level, under_systemd=self._prefix, write=self._write)

    def say(self, level: str, what: str, /, **saw: object) -> None:
        """Write one line, if it is important enough."""
        if _PRIORITIES[level] > _PRIORITIES[self.level]:
            return
        line = " ".join([what, *(f"{key}={_quoted(value)}" for key, value in saw.items())])
        self._write(f"<{_PRIORITIES[level]}>{line}\n" if self._prefix else f"{line}\n")

    def tell(self, decision: Decision) -> None:
        """Write a decision with the figures behind it."""
        level = _LOUD.get(decision.verdict, "debug")
        if _PRIORITIES[level] <= _PRIORITIES[self.level]:
            self.say(level, "decision", **line_of(decision))


def line_of(decision: Decision) -> dict[str, object]:
    """A decision as one flat row."""
    about: dict[str, object] = {"action": decision.verdict}
    if decision.path:
        about["memcg"] = decision.path
    if decision.node is not None:
        about["node"] = decision.node
    return {**about, "because": decision.because.code, **decision.because.saw}


def _quoted(value: object) -> str:
    """A value that cannot break its line, whatever a cgroup is called."""
    text = str(value)
    printable = text.isprintable()
    if text and printable and not _BREAKS.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not printable:
        plain = escaped.encode("utf-8", "backslashreplace").decode()
        escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in plain)
    return f'"{escaped}"'
