"""Fill one vsock port of the daemon's with silent connections, and see who is served meanwhile."""

from __future__ import annotations

import argparse

from lab.workloads.chaos_calls import FLOOD, PORTS, flood
from lab.workloads.lines import say


def main() -> None:
    """Flood, tell of it, and hang up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, choices=PORTS)
    parser.add_argument("--connections", type=int, default=FLOOD)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    say("ready")
    say("over", **flood(arguments.seconds, PORTS.index(arguments.port), arguments.connections))


if __name__ == "__main__":
    main()
