"""memreact-top in a real terminal: its picture, its colours, and the terminal after its end."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.tools.servers import serving
from tests.tools.top.guests import BEGAN, FakeDaemon, cgroup, decision
from tests.tools.top.terminal import HAS_TMUX, Terminal, terminal

pytestmark = pytest.mark.skipif(not HAS_TMUX, reason="there is no tmux here")

ROOT = Path(__file__).parents[3]
EVIL = "/a\x1b[2J\x1b]0;owned\x07\u65e5\u672c\u202e x"
PAUSED = "paused        "
SIZES = ((80, 24), (120, 36), (160, 48))
COLOURS = re.compile(r"\x1b\[[0-9;]*?(38;2|48;2|38;5|48;5|3[0-7]|4[0-7]|9[0-7]|10[0-7])[0-9;]*m")


def environment(**more: str) -> dict[str, str]:
    folders = os.pathsep.join(str(ROOT / each) for each in ("", "schemas", "tools"))
    return {"PYTHONPATH": folders, **more}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon that tells of some cgroups, one of which has a bad name."""
    made = FakeDaemon([cgroup("/a", [(1, 9)]), cgroup(EVIL, [(1, 2)]), cgroup("/b")])
    made.decide(decision(1, path=EVIL, verdict="pause", because="guest_stall_over_limit"))
    with serving(tmp_path / "s", made.serve):
        yield made
        made.hang_up()


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Terminal]:
    with terminal(tmp_path) as opened:
        yield opened


def starts(window: Terminal, tmp_path: Path, *flags: str, **env: str) -> None:
    """Begin, and remember the process and its exit status in files."""
    command = (
        f"{sys.executable} -m memreact_tools.top --address unix:{tmp_path}/s {' '.join(flags)} &"
        f" echo $! > {tmp_path}/pid; fg >/dev/null; echo ended $?"
    )
    window.command("sh", "-m", "-c", command, env=environment(**env))


def pid(tmp_path: Path) -> int:
    return int((tmp_path / "pid").read_text())


def is_restored(window: Terminal) -> bool:
    """The cursor is seen, the screen is the first one, no mouse is asked for."""
    return (
        window.says("cursor_flag"),
        window.says("alternate_on"),
        window.says("mouse_any_flag"),
    ) == (
        "1",
        "0",
        "0",
    )


def test_the_picture_fills_the_terminal_and_follows_a_resize(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon
) -> None:
    window.resize(*SIZES[0])
    starts(window, tmp_path)
    window.until_seen(PAUSED)
    for width, height in SIZES:
        window.resize(width, height)
        lines = window.until(partial(fills, width, height))
        assert any("\\x1b[2J" in line for line in lines)
        assert window.says("pane_title") != "owned"
    window.resize(60, 15)
    window.until(lambda lines: len(lines) == 15 and "to the host" in "".join(lines))
    window.type("q")
    window.until_seen("ended 0")
    assert is_restored(window)


def fills(width: int, height: int, lines: list[str]) -> bool:
    """The picture is as high as the window, from its head to its foot, and has what is for it."""
    picture = "\n".join(lines)
    return (
        len(lines) == height
        and "memreact 0.1.0" in lines[0]
        and PAUSED in picture
        and ("where the memory is" in picture) == (width > 80)
        and "help" in lines[-1]
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_a_signal_leaves_the_terminal_as_it_was(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon, number: signal.Signals, status: int
) -> None:
    starts(window, tmp_path)
    window.until_seen(PAUSED)
    assert window.says("alternate_on") == "1"
    os.kill(pid(tmp_path), number)
    window.until_seen(f"ended {status}")
    assert is_restored(window)
    window.type("echo it e''choes", "Enter")
    window.until_seen("it echoes")


def test_a_bug_leaves_the_terminal_as_it_was_and_its_trace(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon
) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import sys\n"
        "from memreact_tools.top import __main__ as top\n"
        "from memreact_tools.top.board import Board\n"
        "def broken(self): raise ZeroDivisionError('planted')\n"
        "Board.pump = broken\n"
        f"sys.exit(top.main(['--address', 'unix:{tmp_path}/s']))\n"
    )
    window.command("sh", "-c", f"{sys.executable} {planted}; echo ended $?", env=environment())
    window.until_seen("ended 1")
    assert any("planted" in line for line in window.lines())
    assert is_restored(window)


def test_a_daemon_that_starts_again_is_found_and_said(window: Terminal, tmp_path: Path) -> None:
    first = FakeDaemon([cgroup("/first", [(1, 9)])])
    with serving(tmp_path / "s", first.serve):
        starts(window, tmp_path)
        window.until_seen("first")
        first.hang_up()
    window.until_seen("no connection")
    (tmp_path / "s").unlink()
    second = FakeDaemon([cgroup("/second", [(1, 9)])], BEGAN + 1)
    with serving(tmp_path / "s", second.serve):
        window.until_seen("was started again")
        window.until_seen("second")
        window.type("q")
        window.until_seen("ended 0")
        second.hang_up()


def test_sixteen_colours_are_the_terminals_own_and_none_are_none(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon
) -> None:
    starts(window, tmp_path, TERM="screen", COLORTERM="")
    window.until_seen(PAUSED)
    coloured = "\n".join(window.lines(colours=True))
    assert "\x1b[36m" in coloured or "\x1b[1m\x1b[36m" in coloured
    assert not re.search(r"[34]8;[25]", coloured)
    window.type("q")
    window.until_seen("ended 0")
    window.command("clear")
    starts(window, tmp_path, "--no-color")
    window.until_seen(PAUSED)
    assert not COLOURS.search("\n".join(window.lines(colours=True)))
    window.type("q")
    window.until_seen("ended 0")


def test_where_textual_is_missing_it_says_what_to_install(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "textual.py").write_text("raise ImportError('no textual', name='textual')\n")
    env = environment()
    env["PYTHONPATH"] = f"{hidden}{os.pathsep}{env['PYTHONPATH']}"
    command = f"{sys.executable} -m memreact_tools.top --address unix:{tmp_path}/s; echo ended $?"
    window.command("sh", "-c", command, env=env)
    window.until_seen("ended 1")
    assert any("python3-textual" in line for line in window.lines())


def test_a_serial_console_is_given_frames_of_text(
    window: Terminal, tmp_path: Path, daemon: FakeDaemon
) -> None:
    starts(window, tmp_path, "--plain", "--ascii", "-n", "1", TERM="vt100")
    lines = window.until_seen("ended 0")
    assert any(PAUSED in line for line in lines)
    assert all(line.isprintable() for line in lines)
