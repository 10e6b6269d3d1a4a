"""A status of all cgroups, as a guest that is made up tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from memreact_schemas.status import CgroupStatus, Status

__all__ = ["whole_status_of"]


def whole_status_of(
    status: Callable[[tuple[CgroupStatus, ...]], Status],
    cgroups: Callable[[str | None], Iterator[CgroupStatus]],
) -> Callable[[], Awaitable[Status]]:
    """Tell of some cgroups at a time, and let the loop go on between them."""

    async def tell() -> Status:
        told: list[CgroupStatus] = []
        rest = cgroups(None)
        while some := tuple(islice(rest, 64)):
            told += some
            await asyncio.sleep(0)
        return status(tuple(told))

    return tell
