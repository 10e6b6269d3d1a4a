"""What memcgs use, read again and again for somebody who looks on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from msgspec.structs import replace

from kernelio.errors import KernelioError, Unsupported
from kernelio.files import Record
from kernelio.layout import Layout
from kernelio.memcg import parse_amount
from kernelio.psi import parse_some_total_us, read_cgroup_stall
from memreact.events import Instant
from memreact.sources.protection import read_set, read_use_again
from memreact.value import Struct
from memreact_schemas.status import CgroupLimits, CgroupUse

__all__ = ["AGAIN_US", "Uses"]

AGAIN_US = 950_000
"""Who asks once more within this asks more often than once a second."""

_HELD_MAX = 64  # memcgs, of four files each
_PHASES = 8
_PRESSURES = ("memory.pressure", "io.pressure")

_Said: TypeAlias = tuple[bytes | None, bytes | None, list[bytes]]
"""What memory.current and memory.swap.current hold, and both of the others or none."""


class _OpenFiles:
    """The files of one memcg that tell what it uses and has stalled, kept open.

    Of very many cgroups hardly one changes from one tenth of a second to the next: who says the
    very same is told of by what was made of that.

    Args:
        layout: Where the kernel shows its files.
        path: Of the memcg.

    Raises:
        KernelioError: It is gone, or nothing more can be opened.
    """

    def __init__(self, layout: Layout, path: str) -> None:
        self._path = path
        self._records: list[Record] = []
        directory = layout.memcg_dir(path)
        self._current = self._opened(f"{directory}/memory.current")
        self._swapped = self._opened(f"{directory}/memory.swap.current")
        pressures = [self._opened(f"{directory}/{name}") for name in _PRESSURES]
        self._pressures = [each for each in pressures if each is not None]
        self._made: tuple[_Said, CgroupLimits, CgroupUse] | None = None

    def _opened(self, path: str) -> Record | None:
        """None for what the root lacks, and some kernels do."""
        try:
            record = Record(path)
        except Unsupported:
            return None
        except KernelioError:
            self.close()
            raise
        self._records.append(record)
        return record

    def use(self, limits: CgroupLimits) -> CgroupUse:
        """Read them, one call each.

        Args:
            limits: What is set; the very same ones as before where nothing has changed.

        Raises:
            KernelioError: It is gone.
        """
        said, made = self._say(), self._made
        if made is not None and made[0] == said and made[1] is limits:
            return made[2]
        use = self._use(said, limits)
        self._made = said, limits, use
        return use

    def close(self) -> None:
        """Close them."""
        for record in self._records:
            record.close()

    def _say(self) -> _Said:
        current = None if self._current is None else self._current.read()
        swapped = None if self._swapped is None else self._swapped.read()
        try:
            return current, swapped, [each.read() for each in self._pressures]
        except KernelioError:  # its stalls are not shown
            return current, swapped, []

    def _use(self, said: _Said, limits: CgroupLimits) -> CgroupUse:
        current, swapped, pressures = said
        used = replace(
            limits,
            current_bytes=_amount(self._current, current),
            swap_bytes=_amount(self._swapped, swapped) or 0,
        )
        return CgroupUse(path=self._path, limits=used, stall_us=self._stall_us(pressures))

    def _stall_us(self, said: list[bytes]) -> int | None:
        if len(said) < len(_PRESSURES):
            return None
        with suppress(KernelioError):
            of = zip(said, self._pressures, strict=True)
            return sum([parse_some_total_us(text, record.path) for text, record in of])
        return None


def _amount(record: Record | None, said: bytes | None) -> int | None:
    return None if record is None or said is None else parse_amount(said, record.path)


class _Known(Struct):
    """What is remembered of one.

    Args:
        limits: What is set, as it was read; without what is used.
        again_at: When that is read again.
        asked_at: When somebody asked last.
        files: Kept open.
    """

    limits: CgroupLimits
    again_at: Instant
    asked_at: Instant
    files: _OpenFiles | None = None


class Uses:
    """Reads what memcgs use.

    Whoever asks more often than once a second is told limits of the last second, for they seldom
    change, and the files that tell the rest stay open meanwhile. Those who are asked about together
    are not all read again together: it would hold up one answer of each second.

    Args:
        layout: Where the kernel shows its files.
        clock: Reads the moment.
    """

    def __init__(self, layout: Layout, clock: Callable[[], Instant]) -> None:
        self._layout = layout
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        """Of how many it knows what is set."""
        return len(self._known)

    def read(self, path: str) -> CgroupUse | None:
        """Read what one uses and has stalled; None where it is gone."""
        known, now = self._known.get(path), self._clock()
        if known is None or now - known.asked_at >= AGAIN_US:
            use = self._afresh(path, now)
        else:
            known.asked_at = now
            use = self._again(path, known, now)
        if use is None:
            self._drop(path)
        return use

    def forget_old(self) -> None:
        """Let go of those that nobody asked for again within a second."""
        oldest = self._clock() - AGAIN_US
        for path in [path for path, known in self._known.items() if known.asked_at <= oldest]:
            self._drop(path)

    def close(self) -> None:
        """Let go of all."""
        for path in tuple(self._known):
            self._drop(path)

    def _afresh(self, path: str, now: Instant) -> CgroupUse | None:
        self._drop(path)
        limits = read_set(self._layout, path)
        if limits is None:
            return None
        sooner_us = len(self._known) % _PHASES * AGAIN_US // _PHASES
        self._known[path] = _Known(limits, Instant(now + AGAIN_US - sooner_us), now)
        return self._by_path(path, limits)

    def _again(self, path: str, known: _Known, now: Instant) -> CgroupUse | None:
        if now >= known.again_at:
            limits = read_set(self._layout, path)
            if limits is None:
                return None
            known.again_at = Instant(now + AGAIN_US)
            if limits != known.limits:
                known.limits = limits
        try:
            if known.files is None and self._may_hold():
                known.files = _OpenFiles(self._layout, path)
            if known.files is not None:
                return known.files.use(known.limits)
        except KernelioError:
            return None
        return self._by_path(path, known.limits)

    def _may_hold(self) -> bool:
        return sum(known.files is not None for known in self._known.values()) < _HELD_MAX

    def _by_path(self, path: str, limits: CgroupLimits) -> CgroupUse | None:
        used, stall_us = read_use_again(self._layout, path, limits), None
        if used is None:
            return None
        with suppress(KernelioError):
            stall_us = read_cgroup_stall(self._layout.memcg_dir(path)).total_us
        return CgroupUse(path=path, limits=used, stall_us=stall_us)

    def _drop(self, path: str) -> None:
        known = self._known.pop(path, None)
        if known is not None and known.files is not None:
            known.files.close()
