"""The daemon under the storm: `memreact run` itself, that counts what its waiting thread hears.

Two triggers more are added to the very set that its waiting thread polls, and stay armed to the
end: those of the policy come and go with each turn and each change. Their events stop a write and
reach the loop like any other. At the end it prints how many there were.
"""

from __future__ import annotations

import os
import sys

import msgspec

from kernelio.process import refuse_huge_pages
from kernelio.psi import Fired, arm_trigger
from memreact import process
from memreact._lean import leave_out_tls
from memreact.control.store import SettingsStore
from memreact.daemon import Daemon

__all__ = ["Counted", "Heard"]

# The root cgroup: a name that the policy gives to no trigger of its own.
_NAME = "/"


class Heard(msgspec.Struct):
    """What the waiting thread heard.

    Args:
        steady: Events of the two triggers that stayed armed.
        policy: Events of those that the policy armed.
    """

    steady: int = 0
    policy: int = 0


_HEARD = Heard()


class Counted(Daemon):
    """The daemon, and what it heard."""

    def __init__(self, store: SettingsStore, **parts: object) -> None:
        super().__init__(store, **parts)  # type: ignore[arg-type]  # handed on as they came
        stall_us, window_us = int(os.environ["STORM_STALL_US"]), int(os.environ["STORM_WINDOW_US"])
        for path in os.environ["STORM_FILES"].split(os.pathsep):
            fd = arm_trigger(path, "some", stall_us=stall_us, window_us=window_us)
            self._waiting.add(fd, _NAME)

    def _fired(self, fired: Fired, stops: int) -> None:
        if fired.name == _NAME:
            _HEARD.steady += 1
        else:
            _HEARD.policy += 1
        super()._fired(fired, stops)


def main() -> int:
    """Run as `memreact run` does, on a guest made of files; settings and its root are the words."""
    refuse_huge_pages()
    leave_out_tls(os.environ)
    process.Daemon = Counted  # type: ignore[attr-defined]
    code = process.run(sys.argv[1], root=sys.argv[2])
    print(msgspec.json.encode(_HEARD).decode())
    return code


if __name__ == "__main__":
    sys.exit(main())
