"""The command line: run, check, doctor, replay, unit."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memreact import __version__
from memreact.unit import COMMAND, UNITS, unit_text

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_RECENT_SYSTEMD = 257
_LOOP = "uvloop"
_OF_THE_UNIT = ["run"]  # parsed by nobody, so that what parses is not loaded
_UNIT = f"{' or '.join(UNITS)}; the first unless named"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; 0 done, 1 could not, 2 misused or refused settings."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words == _OF_THE_UNIT:
        return _run()
    asked = _parser().parse_args(words)
    command = _COMMANDS[asked.command]
    return command(asked)


def _parser() -> argparse.ArgumentParser:
    import argparse  # noqa: PLC0415  # it would stay in the memory of the daemon

    parser = argparse.ArgumentParser(
        prog="memreact",
        description="Gives a VM guest's cold memory back to its host, and stops when it hurts.",
    )
    parser.add_argument("--version", action="version", version=f"memreact {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the daemon in the foreground")
    run.add_argument("--config", metavar="FILE", help="settings, instead of those of the machine")
    run.add_argument("--loop", choices=("uvloop", "asyncio"), default=_LOOP, help="event loop")
    run.add_argument("--trace", metavar="FILE", help="append every event and decision, as JSON")
    check = commands.add_parser("check", help="validate settings and show what is in force")
    check.add_argument("file", nargs="?", metavar="FILE", help="a settings file")
    check.add_argument("--all", action="store_true", help="the defaults too")
    doctor = commands.add_parser("doctor", help="what this guest can do, and what is missing")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument(
        "--prove", action="store_true", help="free 64 MiB, and see that the host is told of it"
    )
    replay = commands.add_parser("replay", help="decide everything of a recording again")
    replay.add_argument("file", metavar="FILE", help="of memreact-ctl record, or left by a daemon")
    replay.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="tell what this setting would have changed; may be repeated",
    )
    unit = commands.add_parser("unit", help="the systemd units, for this installation")
    unit.add_argument("--print", action="store_true", required=True, help="print one")
    unit.add_argument(
        "name", nargs="?", choices=UNITS, default=UNITS[0], metavar="NAME", help=_UNIT
    )
    unit.add_argument("--systemd", type=int, metavar="VERSION", help="for it; else this machine's")
    commands.add_parser("put-back", help="restore what was switched on (for the unit)")
    return parser


def _asked_to_run(asked: argparse.Namespace) -> int:
    return _run(asked.config, loop=asked.loop, trace=asked.trace)


def _run(config: str | None = None, *, loop: str = _LOOP, trace: str | None = None) -> int:
    from kernelio.process import refuse_huge_pages  # noqa: PLC0415  # the other commands stay small
    from memreact._lean import leave_out_tls  # noqa: PLC0415

    refuse_huge_pages()  # before the imports below fill the heap
    leave_out_tls(os.environ)
    from kernelio.errors import KernelioError  # noqa: PLC0415
    from memreact.process import run  # noqa: PLC0415
    from memreact.settings.errors import SettingsError  # noqa: PLC0415

    try:
        return run(config, loop=loop, trace=trace)
    except SettingsError as error:
        print(f"memreact: {error}", file=sys.stderr)  # noqa: T201
        return _MISUSED
    except (KernelioError, OSError) as error:
        print(f"memreact: {error}", file=sys.stderr)  # noqa: T201
        return _COULD_NOT


def _check(asked: argparse.Namespace) -> int:
    from memreact.check import check  # noqa: PLC0415

    code, text = check(asked.file, show_all=asked.all)
    print(text, file=sys.stdout if code == _DONE else sys.stderr)
    return code


def _doctor(asked: argparse.Namespace) -> int:
    if asked.prove:
        return _prove(asked)
    from memreact.doctor import encode, examine_here, render  # noqa: PLC0415

    report = examine_here()
    print(encode(report) if asked.json else render(report))  # noqa: T201
    return _DONE


def _prove(asked: argparse.Namespace) -> int:
    from memreact.prove import encode, prove_here, render  # noqa: PLC0415

    proof = prove_here()
    print(encode(proof) if asked.json else render(proof))  # noqa: T201
    return _DONE if proof.proved else _COULD_NOT


def _replay(asked: argparse.Namespace) -> int:
    from memreact.replay.command import replay  # noqa: PLC0415
    from memreact.settings.errors import SettingsError  # noqa: PLC0415

    try:
        return replay(asked.file, asked.set)
    except SettingsError as error:
        print(f"memreact: {error}", file=sys.stderr)  # noqa: T201
        return _MISUSED
    except OSError as error:
        print(f"memreact: {error}", file=sys.stderr)  # noqa: T201
        return _COULD_NOT


def _unit(asked: argparse.Namespace) -> int:
    version = asked.systemd if asked.systemd is not None else _systemd_version()
    sys.stdout.write(unit_text(asked.name, _own_command(), systemd=version))
    return _DONE


def _systemd_version() -> int:
    """That of this machine; where there is none the unit is for another one, and a recent one."""
    import re  # noqa: PLC0415  # the daemon has no use for these
    import subprocess  # noqa: PLC0415

    try:
        told = subprocess.run(["systemctl", "--version"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return _RECENT_SYSTEMD
    found = re.match(rb"systemd (\d+)", told)
    return int(found[1]) if found else _RECENT_SYSTEMD


def _own_command() -> str:
    """Where this command lies: a wheel's is not where the Debian package has it."""
    called = os.path.abspath(sys.argv[0])
    return called if os.path.basename(called) == "memreact" else COMMAND


def _put_back(_asked: argparse.Namespace) -> int:
    from kernelio.layout import Layout  # noqa: PLC0415
    from memreact.put_back import put_back  # noqa: PLC0415
    from memreact.run_dir import RunDir  # noqa: PLC0415

    done, failed = put_back(RunDir(), Layout())
    for path in done:
        print(f"put back {path}")  # noqa: T201
    for error in failed:
        print(f"memreact: {error}", file=sys.stderr)  # noqa: T201
    return _COULD_NOT if failed else _DONE


_COMMANDS = {
    "run": _asked_to_run,
    "check": _check,
    "doctor": _doctor,
    "replay": _replay,
    "unit": _unit,
    "put-back": _put_back,
}

if __name__ == "__main__":
    sys.exit(main())
