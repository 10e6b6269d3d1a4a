"""What can go wrong in the lab, told with what to try next."""

from __future__ import annotations

__all__ = ["CommandFailed", "DeadlinePassed", "GuestLost", "LabError", "MissingPackages"]


class LabError(Exception):
    """Any of the errors below, or a step that could not be done."""


class MissingPackages(LabError):  # noqa: N818  # says what happened
    """The host lacks packages that the lab needs."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        line = "apt-get install --no-install-recommends " + " ".join(packages)
        super().__init__(
            f"this machine lacks {', '.join(packages)}; run `python -m lab setup`, or: {line}"
        )
        self.packages = packages


class DeadlinePassed(LabError):  # noqa: N818  # says what happened
    """Something took longer than it ever should."""


class GuestLost(LabError):  # noqa: N818  # says what happened
    """QEMU ended, or the channel to it did."""


class CommandFailed(LabError):  # noqa: N818  # says what happened
    """A command on the host or in the guest ended with an error.

    Args:
        command: What was run.
        code: Its exit code; minus the signal when one ended it.
        output: What it printed, both streams.
    """

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"`{command}` ended with {code}: {output.strip()[-2000:]}")
        self.code = code
        self.output = output
