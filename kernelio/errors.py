"""What can go wrong at the kernel's edge, as types that say which file and what was expected."""

# ruff: noqa: N818  # the names say what happened: Vanished is daily life, not an error

from __future__ import annotations

__all__ = ["Interrupted", "KernelioError", "MalformedReading", "Refused", "Unsupported", "Vanished"]

_SHOWN = 200  # characters of a line that a message quotes


class KernelioError(Exception):
    """Any of the errors below; `path` is the kernel file that was touched."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class Unsupported(KernelioError):
    """This kernel, boot line or privilege lacks the interface."""


class MalformedReading(KernelioError):
    """The file does not say what its documentation says; `line` is the whole line."""

    def __init__(self, path: str, line: str, expected: str) -> None:
        super().__init__(path, f"expected {expected}, found {line[:_SHOWN]!r}")
        self.line = line
        self.expected = expected


class Vanished(KernelioError):
    """The memcg or device was removed: ENOENT on open, ENODEV on an open fd."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "gone")


class Refused(KernelioError):
    """The kernel said no to a write that it understands; `errno` tells which no."""

    def __init__(self, path: str, errno: int, detail: str) -> None:
        super().__init__(path, detail)
        self.errno = errno


class Interrupted(KernelioError):
    """Our own kick broke the write off; what it did until then stays done."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "broken off by a kick")
