"""Delay accounting: whether the kernel counts what each task waits for; taskstats has the figures.

Source: Documentation/accounting/delay-accounting.rst, "kernel.task_delayacct"
"""

from __future__ import annotations

from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["read_delay_accounting"]


def read_delay_accounting(layout: Layout) -> bool:
    """Whether the kernel counts delays now (kernel.task_delayacct).

    Raises:
        Unsupported: Built without TASK_DELAY_ACCT, or before Linux 5.14.
    """
    return read_bytes(layout.proc("sys/kernel/task_delayacct")).strip() == b"1"
