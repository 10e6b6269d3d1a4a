"""Readings for tests, complete, of which a test says only what matters to it."""

from __future__ import annotations

from memreact.events import GuestPressure, Inspection, Instant, PressureSample

__all__ = ["inspection", "sample"]


def sample(
    at: int = 0, guest_us: int = 0, memcg: str | None = None, memcg_us: int = 0
) -> PressureSample:
    """Stall totals at a moment."""
    return PressureSample(Instant(at), GuestPressure(guest_us), memcg, memcg_us)


def inspection(path: str = "/shop", **fields: object) -> Inspection:
    """A memcg that nothing keeps from being evicted."""
    known: dict[str, object] = {
        "path": path,
        "pressure": sample(memcg=path),
        "guards": (),
        "anon_bytes": 0,
        "file_bytes": 0,
        "dirty_bytes": 0,
        "unevictable_bytes": 0,
        "evicted_total_pages": 0,
        "refault_total_pages": 0,
        "swap_free_bytes": 0,
    }
    return Inspection(**{**known, **fields})  # type: ignore[arg-type]
