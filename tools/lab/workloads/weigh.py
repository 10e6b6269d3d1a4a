"""What each set of imports of the daemon takes of anonymous memory, in the order of its start.

The sets are imported one after the other into this process, so what two of them share is counted
with the first. Which modules of its own the daemon loads is asked of a process of its own.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

_LOADED = """\
import os, sys
from memreact._lean import leave_out_tls
leave_out_tls(os.environ)
import memreact.daemon
own = {"kernelio", "memreact", "memreact_schemas"}
print(*(name for name in sys.modules if name.split(".")[0] in own))
"""
_BORROWED = (
    ("ctypes and re", ("ctypes", "re")),
    ("dataclasses and typing, with inspect", ("dataclasses", "typing")),
    ("asyncio, with logging, socket, subprocess and threads; no TLS", ("asyncio",)),
    ("uvloop", ("uvloop",)),
    ("msgspec", ("msgspec",)),
    ("tomli", ("tomli",)),
    ("pyudev", ("kernelio.udev",)),
)
_OWN = (
    ("kernelio", ("kernelio",)),
    ("schemas", ("memreact_schemas",)),
    ("what decides", ("memreact.policy", "memreact.rules", "memreact.events", "memreact.actions")),
    ("settings", ("memreact.settings",)),
    ("telemetry", ("memreact.telemetry",)),
    ("the rest of memreact", ("memreact",)),
)


def anon_kb() -> int:
    """Anonymous memory of this process; read without the help of what is to be weighed."""
    fd = os.open("/proc/self/smaps_rollup", os.O_RDONLY)
    text = os.read(fd, 4096)
    os.close(fd)
    return int(text.partition(b"Anonymous:")[2].split(None, 1)[0])


def own_modules() -> list[str]:
    """Those that the daemon loads at its start, in that order."""
    import subprocess  # noqa: PLC0415  # not into what is weighed

    command = [sys.executable, "-c", _LOADED]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def weigh(asked: list[str]) -> list[tuple[str, int, int]]:
    """Import set by set: its name, the modules that came with it, the memory in kB."""
    rows = []
    modules, before_kb = 0, 0

    def weighed(name: str) -> None:
        nonlocal modules, before_kb
        now_kb = anon_kb()
        rows.append((name, len(sys.modules) - modules, now_kb - before_kb))
        modules, before_kb = len(sys.modules), now_kb

    weighed("the interpreter")
    for name, imported in _BORROWED:
        for module in imported:
            import_module(module)
            if module == "typing":
                _as_the_daemon_begins()
        weighed(name)
    for name, rooms in _OWN:
        for module in asked:
            if any(module == room or module.startswith(f"{room}.") for room in rooms):
                import_module(module)
        weighed(name)
    return rows


def _as_the_daemon_begins() -> None:
    import_module("kernelio.process").refuse_huge_pages()
    import_module("memreact._lean").leave_out_tls(os.environ)


def main() -> None:
    """Weigh in a process that has loaded nothing yet, and print a line for each set."""
    if len(sys.argv) == 1:
        words = [sys.executable, __file__, *own_modules()]
        os.execv(sys.executable, words)  # noqa: S606  # no shell is wanted
    for name, modules, taken_kb in weigh(sys.argv[1:]):
        print(taken_kb, modules, name)


if __name__ == "__main__":
    main()
