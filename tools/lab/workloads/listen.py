"""Counts the events of pressure triggers, with nothing but the kernel's own interface.

Independent of memreact on purpose: it opens, writes and polls by itself. Ends at SIGTERM.

Source: Documentation/accounting/psi.rst, "Monitoring for pressure thresholds"
"""

from __future__ import annotations

import argparse
import os
import select
import signal

from lab.workloads.lines import say


def main() -> None:
    """Arm, say so, and count until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stall-us", type=int, required=True)
    parser.add_argument("--window-us", type=int, required=True)
    parser.add_argument("files", nargs="+", help="pressure files; told by their number")
    arguments = parser.parse_args()
    poll, counts = select.poll(), {}
    for path in arguments.files:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, b"some %d %d\0" % (arguments.stall_us, arguments.window_us))
        poll.register(fd, select.POLLPRI)
        counts[fd] = 0
    told, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    poll.register(told, select.POLLIN)
    say("ready")
    while told not in (ready := dict(poll.poll())):
        for fd in ready:
            counts[fd] += 1
    say("over", **{str(number): count for number, count in enumerate(counts.values())})


if __name__ == "__main__":
    main()
