"""What memcgs use, read again and again for somebody who looks on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from kernelio.errors import KernelioError, Unsupported
from kernelio.files import Record
from kernelio.layout import Layout
from kernelio.memcg import parse_amount
from kernelio.psi import parse_some_total_us, read_cgroup_stall
from memreact.events import Instant
from memreact.sources.protection import read_protection, read_use_again
from memreact.value import Struct
from memreact_schemas.status import CgroupLimits, CgroupUse

__all__ = ["AGAIN_US", "Uses"]

AGAIN_US = 950_000
"""Who asks once more within this asks more often than once a second."""

_HELD_MAX = 64  # memcgs, of four files each
_AMOUNTS = ("memory.current", "memory.swap.current")
_PRESSURES = ("memory.pressure", "io.pressure")


class _OpenFiles:
    """The files of one memcg that tell what it uses and has stalled, kept open.

    Args:
        directory: Of the memcg.

    Raises:
        KernelioError: It is gone, or nothing more can be opened.
    """

    def __init__(self, directory: str) -> None:
        self._records: dict[str, Record] = {}
        for name in (*_AMOUNTS, *_PRESSURES):
            try:
                self._records[name] = Record(f"{directory}/{name}")
            except Unsupported:  # the root lacks some, and some kernels do
                continue
            except KernelioError:
                self.close()
                raise

    def use(self, path: str, limits: CgroupLimits) -> CgroupUse:
        """Read them, one call each.

        Raises:
            KernelioError: It is gone.
        """
        current, swapped = map(self._amount, _AMOUNTS)
        used = replace(limits, current_bytes=current, swap_bytes=swapped or 0)
        return CgroupUse(path=path, limits=used, stall_us=self._stall_us())

    def close(self) -> None:
        """Close them."""
        for record in self._records.values():
            record.close()

    def _amount(self, name: str) -> int | None:
        record = self._records.get(name)
        return None if record is None else parse_amount(record.read(), record.path)

    def _stall_us(self) -> int | None:
        with suppress(KernelioError, KeyError):
            records = [self._records[name] for name in _PRESSURES]
            return sum([parse_some_total_us(each.read(), each.path) for each in records])
        return None


class _Known(Struct):
    """What is remembered of one.

    Args:
        limits: As they were read.
        read_at: When that was.
        asked_at: When somebody asked last.
        files: Kept open.
    """

    limits: CgroupLimits
    read_at: Instant
    asked_at: Instant
    files: _OpenFiles | None = None


class Uses:
    """Reads what memcgs use.

    Whoever asks more often than once a second is told limits of the last second, for they seldom
    change, and the files that tell the rest stay open meanwhile.

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
        limits = read_protection(self._layout, path)
        if limits is None:
            return None
        self._known[path] = _Known(limits, now, now)
        return self._with_stall(path, limits)

    def _again(self, path: str, known: _Known, now: Instant) -> CgroupUse | None:
        if now - known.read_at >= AGAIN_US:
            limits = read_protection(self._layout, path)
            if limits is None:
                return None
            known.limits, known.read_at = limits, now
        try:
            if known.files is None and self._may_hold():
                known.files = _OpenFiles(self._layout.memcg_dir(path))
            if known.files is not None:
                return known.files.use(path, known.limits)
        except KernelioError:
            return None
        limits = read_use_again(self._layout, path, known.limits)
        return None if limits is None else self._with_stall(path, limits)

    def _may_hold(self) -> bool:
        return sum(known.files is not None for known in self._known.values()) < _HELD_MAX

    def _with_stall(self, path: str, limits: CgroupLimits) -> CgroupUse:
        stall_us = None
        with suppress(KernelioError):
            stall_us = read_cgroup_stall(self._layout.memcg_dir(path)).total_us
        return CgroupUse(path=path, limits=limits, stall_us=stall_us)

    def _drop(self, path: str) -> None:
        known = self._known.pop(path, None)
        if known is not None and known.files is not None:
            known.files.close()
