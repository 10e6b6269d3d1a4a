"""What may be typed."""

from __future__ import annotations

import argparse
import functools
from typing import TypeAlias

from memreact_schemas.control import HOLD_SECONDS_MAX, SOCKET, SQUEEZE_SECONDS_MAX
from memreact_schemas.swap import PRIORITY_MAX, SWAPOFF_SECONDS, SWAPOFF_SECONDS_MAX
from memreact_tools import __version__

__all__ = ["ADDRESS", "parser"]

ADDRESS = f"unix:{SOCKET}"
# argparse does not name what add_subparsers returns.
_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # see above
_LEVELS = ("error", "warning", "notice", "info", "debug")
_FORMS = "unix:/PATH, vsock:CID:PORT or hvsock:/PATH:PORT; may be repeated"


@functools.cache  # argparse takes longer to make it than to use it
def parser() -> argparse.ArgumentParser:
    """Return the parser; what it finds has `verb`, and `rule_verb` or `swap_verb` beside some."""
    top = argparse.ArgumentParser(
        prog="memreact-ctl", description="Asks and tells memreact, in this guest or from its host."
    )
    top.add_argument("--version", action="version", version=f"memreact-ctl {__version__}")
    _common(top, later=False)
    top.add_argument("-l", dest="_level", metavar="LEVEL", help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _reading(verbs)
    _changing(verbs)
    _acting(verbs)
    _swap(verbs)
    report = verbs.add_parser("report", help="draw a recording over time")
    report.add_argument("file", metavar="FILE", help="a recording")
    report.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the picture, such as report.svg"
    )
    _connect(verbs.add_parser("connect", help="speak as Kata's agent-ctl does"))
    return top


def _common(to: argparse.ArgumentParser, *, later: bool = True) -> None:
    """Add what every verb takes, before it or behind it."""
    unsaid = argparse.SUPPRESS if later else None
    to.add_argument("--address", action="append", metavar="URI", default=unsaid, help=_FORMS)
    to.add_argument(
        "--address-file", metavar="FILE", default=unsaid, help="addresses, one a line; - is stdin"
    )
    to.add_argument(
        "--hybrid-port",
        type=int,
        metavar="PORT",
        default=unsaid,
        help="a guest's port behind its monitor's unix socket",
    )
    to.add_argument(
        "--parallel",
        type=_positive,
        metavar="N",
        default=argparse.SUPPRESS if later else 16,
        help="guests that are asked at the same time (16)",
    )
    to.add_argument(
        "--timeout",
        metavar="TIME",
        default=unsaid,
        help="for each guest, as in 5 or 500ms (10 s)",
    )
    to.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if later else False,
        help="for programs",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _verb(verbs: _Verbs, name: str, about: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=about)
    _common(made)
    return made


def _reading(verbs: _Verbs) -> None:
    status = _verb(verbs, "status", "what goes on, in the guest or in one cgroup")
    status.add_argument("path", nargs="?", metavar="PATH", help="of a cgroup")
    status.add_argument("--all", action="store_true", help="every cgroup, not the largest alone")
    status.add_argument("--ledger", action="store_true", help="take stock of the memory first")
    get = _verb(verbs, "get", "settings in force, and where they come from")
    get.add_argument("keys", nargs="*", metavar="KEY", help="as in memcg.swap, or memcg")
    _verb(verbs, "diff", "settings that differ from the defaults, or between guests")
    explain = _verb(
        verbs, "explain", "why no more of a cgroup is evicted, and what would change it"
    )
    explain.add_argument("path", metavar="CGROUP", help="its path")
    _verb(verbs, "doctor", "what the guest can do, and what is missing")
    watch = _verb(verbs, "watch", "decisions as they are made")
    watch.add_argument("--status", action="store_true", help="status as it changes, too")
    what_if = _verb(verbs, "what-if", "what a turn would come to with other settings")
    what_if.add_argument("pairs", nargs="+", metavar="KEY=VALUE", help="as in memcg.swap=true")
    record = _verb(verbs, "record", "write all that happens into a file, until interrupted")
    record.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="a new file; compressed if it ends in .gz; - is stdout",
    )
    record.add_argument(
        "--flight", action="store_true", help="what the flight recorder holds, and no more"
    )
    record.add_argument("--for", dest="length", metavar="TIME", help="for so long, as in 10m")
    record.add_argument(
        "--status-every", metavar="TIME", help="between two lines of status; 0 for none (10 s)"
    )


def _changing(verbs: _Verbs) -> None:
    change = _change(verbs, "set", "change settings, all or none")
    change.add_argument("pairs", nargs="+", metavar="KEY=VALUE", help="as in memcg.swap=true")
    unset = _change(verbs, "unset", "forget what was set: the files hold again")
    unset.add_argument("keys", nargs="*", metavar="KEY")
    unset.add_argument("--all", action="store_true", help="everything that was set")
    level = _change(verbs, "log-level", "what reaches the journal")
    level.add_argument("level", choices=_LEVELS, metavar="LEVEL", help=", ".join(_LEVELS))
    rule = verbs.add_parser("rule", help="what differs for a cgroup and those below it")
    rules = rule.add_subparsers(dest="rule_verb", required=True, metavar="put|add|set|del")
    for name, about in (
        ("put", "add a rule, or change keys of the one that is there"),
        ("add", "for a cgroup that has no rule"),
        ("set", "change keys of a rule, the others stay"),
        ("del", "take a rule away"),
    ):
        each = _change(rules, name, about)
        each.add_argument("path", metavar="PATH", help="of the cgroup")
        each.add_argument("--numa", metavar="NODES", help="as in 0,1; all if it is not given")
        if name == "del":
            each.add_argument("--if-there", action="store_true", help="it need not be there")
        else:
            each.add_argument("pairs", nargs="+", metavar="KEY=VALUE", help="as in swap=true")


def _change(verbs: _Verbs, name: str, about: str) -> argparse.ArgumentParser:
    made = _verb(verbs, name, about)
    made.add_argument("--dry-run", action="store_true", help="say what would change")
    made.add_argument(
        "--expect-revision", type=int, metavar="N", help="refuse unless this one is in force"
    )
    return made


def _acting(verbs: _Verbs) -> None:
    pause = _verb(verbs, "pause", "break off what runs, begin nothing; it ends by itself")
    pause.add_argument(
        "length", metavar="TIME", help=f"as in 90, 10m or 1h; {HOLD_SECONDS_MAX} s at most"
    )
    pause.add_argument("--reason", metavar="TEXT", help="shown in status and log")
    _verb(verbs, "resume", "end such a pause")
    squeeze = _verb(verbs, "squeeze", "give memory back now, the coldest first")
    squeeze.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="bytes to report, as in 300M; the share of its memory that the host may hold, as in "
        "60%%; or cold, for what is cold by the settings",
    )
    squeeze.add_argument("--scope", metavar="PATH", help="of one cgroup and those below it")
    squeeze.add_argument(
        "--deadline",
        metavar="TIME",
        default="30s",
        help=f"when it ends at the latest, as in 10s; {SQUEEZE_SECONDS_MAX} s at most (30 s)",
    )
    squeeze.add_argument(
        "--hold",
        metavar="TIME",
        help=f"keep it so for as long; {HOLD_SECONDS_MAX} s at most",
    )
    squeeze.add_argument("--release", action="store_true", help="keep nothing any more")
    run = _verb(verbs, "run-now", "begin a turn now, as if every period were due")
    run.add_argument("path", nargs="?", metavar="PATH", help="of one cgroup")


def _swap(verbs: _Verbs) -> None:
    swaps = verbs.add_parser("swap", help="disks that are in use as swap")
    each = swaps.add_subparsers(dest="swap_verb", required=True, metavar="list|add|remove")
    _verb(each, "list", "swap areas in use")
    add = _which(_verb(each, "add", "take a disk into use as swap"))
    add.add_argument(
        "--make", action="store_true", help="write a swap signature first, with --uuid if given"
    )
    add.add_argument(
        "--priority", type=int, metavar="N", help=f"0 to {PRIORITY_MAX}; higher ones are used first"
    )
    add.add_argument(
        "--discard",
        choices=("no", "once", "pages", "both"),
        help="what is discarded: all at the begin, pages that are free again, or both (both)",
    )
    add.add_argument("--wait", metavar="TIME", help="for a disk that is not there yet (3 s)")
    remove = _which(_verb(each, "remove", "take what lies there back, and use it no more"))
    remove.add_argument(
        "--deadline",
        metavar="TIME",
        default=f"{SWAPOFF_SECONDS}s",
        help=f"when it is broken off at the latest; {SWAPOFF_SECONDS_MAX} s at most "
        f"({SWAPOFF_SECONDS} s)",
    )


def _which(to: argparse.ArgumentParser) -> argparse.ArgumentParser:
    to.add_argument(
        "which",
        metavar="DISK",
        help="its serial, as memreact-swap0, its PCI path, as 01/00, or its swap signature's UUID; "
        "of one in use also its path",
    )
    to.add_argument("--uuid", metavar="UUID", help="of the signature, beside a serial or PCI path")
    return to


def _connect(to: argparse.ArgumentParser) -> None:
    """Take every option of agent-ctl's; its switches take a value, or none."""
    to.add_argument("--server-address", action="append", default=[], metavar="URI", help=_FORMS)
    to.add_argument(
        "--address-file", default=argparse.SUPPRESS, metavar="FILE", help="addresses, one a line"
    )
    to.add_argument(
        "--hybrid-vsock-port",
        type=int,
        default=1024,
        metavar="PORT",
        help="1024 is Kata's agent; memreact listens on 1051 unless it is set to take its place",
    )
    to.add_argument(
        "--timeout", default=argparse.SUPPRESS, metavar="TIME", help="of each call, as in 5s"
    )
    to.add_argument(
        "-c",
        "--cmd",
        action="extend",
        nargs="+",
        default=[],
        metavar="COMMAND",
        help="may be repeated; `list` says which there are",
    )
    for switch in ("--hybrid-vsock", "--ignore-errors", "--no-auto-values", "--interactive"):
        to.add_argument(switch, nargs="?", const="true", metavar="VALUE", help="any value, or none")
    to.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs")
    to.add_argument(
        "--parallel", type=_positive, default=argparse.SUPPRESS, metavar="N", help="guests at once"
    )
