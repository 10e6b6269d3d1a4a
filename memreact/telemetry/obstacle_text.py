"""An obstacle in words, with the figures in it and the command that takes it away."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

import msgspec

from kernelio.memcg import Protection
from memreact.policy.obstacles import Change, Do, Lower, Obstacle, Raise, Set, Wait
from memreact.telemetry.decisions import INT_MAX, as_text
from memreact_schemas.explanation import ObstacleStatus, WayOut

__all__ = ["ObstacleTeller"]

_Saw = Mapping[str, int | str]
_PPM_PER_PERCENT = 10_000
_QUOTE = '"'

_ANON = {
    "swap_not_asked_for": "swap is off",
    "swappiness_max_is_0": "swappiness_max is 0",
    "swap_exhausted": "no swap is free that it may use",
    "swap_limit_reached": "its memory.swap.max, or that of one above it, leaves no more room",
    "promotions_over_limit": "too much of what was swapped out came back at once",
    "zram_full": "zram may take no more",
    "zram_saves_nothing": "zram stores it in nearly its size",
    "file_pages_stay": "its old file pages stay, and this kernel takes them first",
}
_DO = {
    "resume": "end it: memreact-ctl resume",
    "run_now": "begin it now: memreact-ctl run-now {path}",
    "thaw": "thaw it: write 0 to cgroup.freeze",
    "add_swap": "give the guest a swap area: zram by [swap] zram_percent, or a disk of its host",
    "let_zram_take_more": "raise the mem_limit of the zram device",
    "write_back": "let its dirty pages be written: sync, or a faster disk",
    "unpin": "have its workload unlock what it locked, or unmap what is pinned",
}


def _figure(saw: _Saw, key: str) -> int:
    value = saw.get(key, 0)
    return value if isinstance(value, int) else 0


def _span(us: int) -> str:
    seconds = max(us, 0) // 1_000_000
    if seconds >= 3600:  # noqa: PLR2004  # seconds in an hour
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    if seconds >= 60:  # noqa: PLR2004  # seconds in a minute
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds} s" if seconds else f"{max(us, 0) // 1000} ms"


def _amount(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _percent(ppm: int) -> str:
    return f"{ppm / _PPM_PER_PERCENT:g} %"


def _stalled(saw: _Saw) -> str:
    stall, over, limit = (_figure(saw, key) for key in ("stall_us", "over_us", "limit_ppm"))
    share = f" ({100 * stall / over:.2f} %)" if over else ""
    return f"{_span(stall)} of {_span(over)}{share}, limit {_percent(limit)}"


def _anon(saw: _Saw, size: str) -> str:
    return f"{_why_anon(saw)}: {size} of cold anonymous memory stay"


def _anon_of_any_age(saw: _Saw, size: str) -> str:
    return f"{_why_anon(saw)}: {size} of anonymous memory would stay, however old"


def _why_anon(saw: _Saw) -> str:
    why = str(saw.get("anon", ""))
    return _ANON.get(why, why)


def _young(saw: _Saw, size: str) -> str:
    idle, cold = (_span(_figure(saw, key)) for key in ("idle_us", "cold_after_us"))
    text = f"{size} untouched for {idle} are cold after {cold}"
    possible = saw.get("possible_in_us")
    return text if not isinstance(possible, int) else f"{text}, at a turn in {_span(possible)}"


_SAY: Mapping[str, Callable[[_Saw, str], str]] = {
    "idle": lambda saw, _: f"nothing may be done in this guest: {saw.get('detail')}",
    "held": lambda saw, _: f"held by {saw.get('by')} for another {_span(_figure(saw, 'left_us'))}",
    "disabled": lambda _, size: f"the settings leave it alone: {size} cold",
    "memreact_itself": lambda *_: "it is memreact's own memory",
    "frozen": lambda _, size: f"it is frozen: {size} cold",
    "after_oom": lambda saw, _: (
        f"it ran out of memory, and is left alone for another {_span(_figure(saw, 'left_us'))}"
    ),
    "next_turn": lambda saw, size: (
        f"{size} cold wait for the next turn, in {_span(_figure(saw, 'left_us'))}"
    ),
    "period_stall_over_limit": lambda saw, _: (
        f"it stalled too much since its last turn: {_stalled(saw)}"
    ),
    "guest_stall_over_limit": lambda saw, _: f"the guest stalled: {_stalled(saw)}",
    "stall_over_limit": lambda saw, _: f"its last eviction was broken off: {_stalled(saw)}",
    "not_quiet_yet": lambda saw, _: f"it was not quiet after a stall: {_stalled(saw)}",
    "share_of_a_period": lambda saw, _: (
        f"without the multi-gen LRU {_percent(_figure(saw, 'share_ppm'))} of it go each period"
    ),
    "no_generations": lambda *_: "nothing is known of the ages of its memory yet",
    "too_little_cold": lambda saw, _: (
        f"only {_figure(saw, 'cold_pages')} pages are cold, less than a batch of the kernel"
    ),
    "nothing_cold_yet": _young,
    "not_cold_yet": _young,
    "in_use": lambda saw, size: (
        f"{size} were touched within the last {_span(_figure(saw, 'touched_within_us'))}"
    ),
    "anon_stays": _anon,
    "anon_would_stay": _anon_of_any_age,
    "refaults": lambda saw, size: (
        f"what was evicted came back: {size} of what is cold stay at the next turn, "
        f"halved {_figure(saw, 'halvings')} times"
    ),
    "limit_hit": lambda saw, _: (
        f"memory.high or memory.max of {saw.get('path', 'it')} was hit while it was evicted"
    ),
    "no_progress_dirty": lambda _, size: f"{size} are dirty, and could not go at the last turn",
    "no_progress_pinned": lambda _, size: f"{size} are pinned, and could not go at the last turn",
    "no_progress_in_use": lambda _, size: f"{size} were in use again at the last turn",
    "pressure_unreadable": lambda *_: "its stall could not be read at the last turn",
    "out_of_time": lambda *_: "its last eviction took as long as it may",
    "refused": lambda saw, _: f"the kernel refused at the last turn: {saw.get('detail')}",
}


class ObstacleTeller:
    """Tells of the obstacles of one cgroup on one node.

    Args:
        path: The cgroup's name, as it can be told.
        node: The node, where there are several.
        page_bytes: Of one page.
        keeps: memory.min and memory.low of it and of each one above it.
    """

    def __init__(
        self, path: str, node: int | None, page_bytes: int, keeps: Mapping[str, Protection]
    ) -> None:
        self._path = path
        self._node = node
        self._page_bytes = page_bytes
        self._keeps = keeps

    def tell(self, obstacle: Obstacle) -> ObstacleStatus:
        """Tell of one."""
        because, pages = obstacle.because, obstacle.pages
        withheld = None if pages is None else min(pages * self._page_bytes, INT_MAX)
        return ObstacleStatus(
            node=self._node,
            because=because.code,
            figures={k: min(v, INT_MAX) for k, v in because.saw.items() if isinstance(v, int)},
            words={k: as_text(v) for k, v in because.saw.items() if isinstance(v, str)},
            withheld_bytes=withheld,
            text=as_text(self._text(obstacle, _amount(withheld or 0))),
            ways_out=tuple(self._way_out(change) for change in obstacle.changes),
        )

    def _text(self, obstacle: Obstacle, size: str) -> str:
        because = obstacle.because
        if because.code == "protected":
            return self._kept(because.saw, size, self._by(obstacle))
        say = _SAY.get(because.code)
        return because.code.replace("_", " ") if say is None else say(because.saw, size)

    def _by(self, obstacle: Obstacle) -> str:
        """What keeps it: a setting where one would change it, else the larger of the two files."""
        change = obstacle.changes[0]
        return change.key if isinstance(change, Set) else self._file(change)

    def _file(self, change: Change) -> str:
        keeps = self._keeps.get(change.path) if isinstance(change, Lower) else None
        return "memory.min" if keeps and keeps.min_bytes >= keeps.low_bytes else "memory.low"

    @staticmethod
    def _kept(saw: _Saw, size: str, by: str) -> str:
        guard, kept = str(saw.get("guard")), _figure(saw, "protected_bytes")
        current = _figure(saw, "current_bytes")
        much = "all" if kept >= INT_MAX else _amount(min(kept, current))
        return f"{by} of {guard} protects {much} of its {_amount(current)}: {size} cold stay"

    def _way_out(self, change: Change) -> WayOut:
        match change:
            case Wait(us):
                text = (
                    f"wait: in {_span(us)} it may be so by itself" if us else "the next turn looks"
                )
                return WayOut(kind="wait", in_us=min(us, INT_MAX), text=text)
            case Set(key, value):
                return self._setting(key, msgspec.json.encode(value).decode())
            case Lower(path, to_bytes):
                name, file = as_text(path), self._file(change)
                text = f"lower {file} of {name} to {_amount(to_bytes)}"
                return WayOut(kind="lower", key=file, value=str(to_bytes), path=name, text=text)
            case Raise(path, file):
                name = as_text(path)
                return WayOut(kind="raise", key=file, path=name, text=f"raise {file} of {name}")
            case Do(what):
                return WayOut(
                    kind="do", key=what, text=_DO[what].format(path=shlex.quote(self._path))
                )

    def _setting(self, key: str, value: str) -> WayOut:
        if "." in key:
            command = f"memreact-ctl set {key}={value.strip(_QUOTE)}"
        else:
            nodes = "" if self._node is None else f" --numa {self._node}"
            command = f"memreact-ctl rule put {shlex.quote(self._path)}{nodes} {key}={value}"
        path = None if "." in key else self._path
        return WayOut(kind="set", key=key, value=value, path=path, text=command)
