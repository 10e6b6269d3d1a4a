"""What the tests of memreact-top may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """On Python's own loop, as it runs: nothing brings uvloop to whoever only looks."""
    return {"asyncio": asyncio.new_event_loop}
