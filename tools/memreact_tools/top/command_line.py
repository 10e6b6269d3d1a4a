"""What may be typed."""

from __future__ import annotations

import argparse

from memreact_tools import __version__
from memreact_tools.top.tree import SORTS

__all__ = ["parser"]

_FORMS = "unix:/PATH, vsock:CID:PORT or hvsock:/PATH:PORT; may be repeated"
_DELAY_LEAST = 0.1


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = argparse.ArgumentParser(
        prog="memreact-top",
        description="Shows what memreact does in this guest, or in others from their host.",
    )
    top.add_argument("--version", action="version", version=f"memreact-top {__version__}")
    top.add_argument("--address", action="append", metavar="URI", help=_FORMS)
    top.add_argument("--address-file", metavar="FILE", help="addresses, one a line; - is stdin")
    top.add_argument(
        "--hybrid-port",
        type=int,
        metavar="PORT",
        help="a guest's port behind its monitor's unix socket",
    )
    top.add_argument(
        "-d",
        "--delay",
        type=_delay,
        default=1.0,
        metavar="SECONDS",
        help="between two readings (1)",
    )
    _looks(top)
    _replays(top)
    return top


def _replays(top: argparse.ArgumentParser) -> None:
    top.add_argument(
        "--replay", metavar="FILE", help="play a recording, as memreact-ctl record writes it"
    )
    top.add_argument("--at", metavar="TIME", help="begin so long after its begin, as in 90 or 5m")
    top.add_argument(
        "--speed", type=_factor, default=1.0, metavar="N", help="so many times as fast (1)"
    )


def _looks(top: argparse.ArgumentParser) -> None:
    top.add_argument(
        "--sort",
        choices=SORTS,
        default="use",
        metavar="KEY",
        help=f"one of {', '.join(SORTS)}".replace("%", "%%"),
    )
    top.add_argument("--filter", default="", metavar="TEXT", help="cgroups with this in their path")
    top.add_argument("--no-color", action="store_true", help="no colours; as NO_COLOR=1 does")
    top.add_argument("--ascii", action="store_true", help="draw with ASCII alone")
    top.add_argument(
        "--plain", action="store_true", help="print frame after frame: for serial consoles"
    )
    top.add_argument("-b", "--batch", action="store_true", help="as --plain, and with every cgroup")
    top.add_argument("--json", action="store_true", help="a line of JSON for each guest and frame")
    top.add_argument(
        "-n", type=_count, default=None, metavar="N", help="end after so many frames, printed ones"
    )


def _delay(text: str) -> float:
    seconds = float(text)
    if not _DELAY_LEAST <= seconds <= 86_400:  # noqa: PLR2004  # a day
        raise ValueError(text)
    return seconds


def _factor(text: str) -> float:
    factor = float(text)
    if not 1 / 16 <= factor <= 4096:  # noqa: PLR2004  # what the keys reach
        raise ValueError(text)
    return factor


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
