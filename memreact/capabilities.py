"""What this guest can do: the rungs of the capability ladder. Looking never fails."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

from kernelio.boot import KernelRelease, parse_release, read_cmdline, read_release
from kernelio.cgroup import find_cgroup2
from kernelio.compaction import open_trigger
from kernelio.damon import reclaimer
from kernelio.errors import KernelioError
from kernelio.files import read_bytes
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.mglru import read_enabled
from kernelio.node import read_online_nodes
from kernelio.page_reporting import balloons, read_order
from kernelio.process import has_capability
from kernelio.psi import read_pressure
from kernelio.swap import read_swaps
from memreact.events import AnonAlone
from memreact.value import replace
from memreact_schemas.doctor import Capabilities, Mglru, Psi

__all__ = [
    "Capabilities",
    "anon_alone",
    "can_open",
    "find_capabilities",
    "find_memreact",
    "if_readable",
    "reclaim_takes_swappiness",
]

_Value = TypeVar("_Value")
_Other = TypeVar("_Other")

_UID = re.compile(rb"^Uid:\t\d+\t(\d+)", re.MULTILINE)
_LOCK_HOLDER = re.compile(rb"\d+: FLOCK +\w+ +\w+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", re.ASCII)
_AGENT = b"kata-agent"
_AGENT_SWITCH = re.compile(r"agent\.mem_agent_enable=(?:true|[+-]?0*[1-9]\d*)", re.ASCII)
_AGENT_FILE = "agent.config_file="
_AGENT_SETTING = re.compile(rb"^\s*(?:mem_agent_enable|enable)\s*=\s*true\b", re.MULTILINE)
_MGLRU_MAIN = 1
# From here on an eviction goes on until the generations of both kinds are gone, and takes younger
# ones of the kind that goes first: run_eviction() in mm/vmscan.c looks at the older of the two.
_KINDS_APART_SINCE = (6, 14)
_ANON_ALONE_SINCE = (6, 16)
_RECLAIM_SWAPPINESS_SINCE = (6, 9)


def find_capabilities(layout: Layout, *, own_pid: int) -> Capabilities:
    """Look at everything once (a few ms); what cannot be read counts as not there.

    Args:
        layout: The guest; where cgroup v2 is mounted is found out anew.
        own_pid: Our own process, which is nobody's rival.
    """
    tree = if_readable(lambda: find_cgroup2(layout.root), None)
    here = replace(layout, cgroup=tree.path) if tree else layout
    has_memory = tree is not None and "memory" in tree.controllers
    root = _is_root(layout)
    release = if_readable(lambda: read_release(layout), None)
    nodes = if_readable(lambda: read_online_nodes(layout), (0,))
    return Capabilities(
        kernel=release.text if release else "",
        root=root,
        page_size=page_size(),
        nodes=nodes,
        cgroup_root=tree.path if tree else None,
        memory_controller=has_memory,
        memory_reclaim=has_memory and os.path.exists(f"{here.cgroup_root}/memory.reclaim"),
        mglru=_mglru(layout, root=root),
        psi=_psi(layout),
        cgroup_psi=tree is not None and os.path.exists(f"{here.cgroup_root}/memory.pressure"),
        page_reporting=any(balloon.reporting for balloon in balloons(layout)),
        reporting_order=if_readable(lambda: read_order(layout), None),
        swap=bool(if_readable(lambda: read_swaps(layout), ())),
        rivals=_rivals(layout, own_pid),
        compaction=any(_can_compact(layout, node) for node in nodes),
    )


def anon_alone(kernel: str) -> AnonAlone:
    """How this kernel evicts anonymous pages alone; one that has no name does it the careful way.

    Source: lru_gen_seq_write(), run_eviction() and get_type_to_scan() in mm/vmscan.c
    """
    release = _release(kernel)
    if release is None:
        return "after_file"
    if release.is_at_least(*_ANON_ALONE_SINCE):
        return "max"
    return "after_file" if release.is_at_least(*_KINDS_APART_SINCE) else "200"


def reclaim_takes_swappiness(kernel: str) -> bool:
    """Whether memory.reclaim of this kernel takes a swappiness of its own.

    Source: Documentation/admin-guide/cgroup-v2.rst, "memory.reclaim"
    """
    release = _release(kernel)
    return release is not None and release.is_at_least(*_RECLAIM_SWAPPINESS_SINCE)


def _release(kernel: str) -> KernelRelease | None:
    return if_readable(lambda: parse_release(kernel, "osrelease"), None)


def if_readable(read: Callable[[], _Value], otherwise: _Other) -> _Value | _Other:
    """What `read` gives, or `otherwise` where this kernel does not say it."""
    try:
        return read()
    except KernelioError:
        return otherwise


def can_open(path: str) -> bool:
    """Whether a file can be opened for reading and writing; nothing is read or written."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_root(layout: Layout) -> bool:
    status = if_readable(lambda: read_bytes(layout.proc("self/status")), b"")
    uid = _UID.search(status)
    if uid is not None and int(uid[1]) == 0:
        return True
    return if_readable(lambda: has_capability("CAP_DAC_OVERRIDE", layout=layout), otherwise=False)


def _mglru(layout: Layout, *, root: bool) -> Mglru:
    switches = if_readable(lambda: read_enabled(layout.lru_gen_enabled), None)
    if switches is None:
        return "absent"
    if not root or not can_open(layout.lru_gen):
        return "unreachable"
    return "on" if switches & _MGLRU_MAIN else "off"


def _psi(layout: Layout) -> Psi:
    path = layout.proc("pressure/memory")
    if if_readable(lambda: read_pressure(path), None) is None or not can_open(path):
        return "none"
    privileged = if_readable(
        lambda: has_capability("CAP_SYS_RESOURCE", layout=layout), otherwise=False
    )
    return "privileged" if privileged else "slow"


def _can_compact(layout: Layout, node: int) -> bool:
    """Whether its file opens: what is written to it counts, and nothing is."""
    trigger = if_readable(lambda: open_trigger(layout, node), None)
    if trigger is not None:
        os.close(trigger)
    return trigger is not None


def _rivals(layout: Layout, own_pid: int) -> tuple[str, ...]:
    damon = reclaimer(layout)
    found = ["DAMON_RECLAIM"] if damon.reclaim else []
    found += [f"DAMON's kdamond {number}" for number in damon.kdamonds]
    if (agent := _find_mem_agent(layout)) is not None:
        found.append(f"kata-agent's mem-agent (process {agent})")
    other = find_memreact(layout)
    if other not in (None, own_pid):
        found.append(f"memreact (process {other})")
    return tuple(found)


def find_memreact(layout: Layout) -> int | None:
    """The process that holds the lock of memreact's run directory, found without touching it."""
    path = f"{layout.root}/run/memreact/lock"
    said = if_readable(lambda: read_bytes(path), b"").strip()
    locks = if_readable(lambda: read_bytes(layout.proc("locks")), b"")
    try:
        inode = os.stat(path).st_ino
    except OSError:
        return None
    holders = _LOCK_HOLDER.findall(locks)
    return next((int(pid) for pid, node in holders if pid == said and int(node) == inode), None)


def _find_mem_agent(layout: Layout) -> int | None:
    """The kata-agent's process, when its own memory agent was switched on."""
    words = if_readable(lambda: read_cmdline(layout), ())
    if not any(_switches_mem_agent_on(layout, word) for word in words):
        return None
    try:
        pids = sorted(int(name) for name in os.listdir(layout.proc("")) if name.isdecimal())
    except OSError:
        return None
    return next((pid for pid in pids if _command(layout, pid) == _AGENT), None)


def _switches_mem_agent_on(layout: Layout, word: str) -> bool:
    if word.startswith(_AGENT_FILE):
        path = layout.root + word.removeprefix(_AGENT_FILE)
        return bool(_AGENT_SETTING.search(if_readable(lambda: read_bytes(path), b"")))
    return _AGENT_SWITCH.fullmatch(word) is not None


def _command(layout: Layout, pid: int) -> bytes:
    return if_readable(lambda: read_bytes(layout.proc(f"{pid}/comm")), b"").strip()
