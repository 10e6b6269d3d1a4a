"""Settings from files and the kernel command line, as layers.

Weakest first: the defaults; /usr/lib/memreact/memreact.toml; /etc/memreact/memreact.toml; the
drop-ins /etc/memreact/memreact.toml.d/*.toml in the order of their names; Kata's own files, its
runtime's and then its agent's, where they exist; the kernel command line; what was pushed. A file
that is named explicitly takes the place of all files. Whatever is wrong in a file is a
`SettingsError` that says where. What is passed over with a warning, so that no guest fails to boot
for it: a bad word on the kernel command line, a file that such a word names and that cannot be
used, and an option of Kata's that is not known here, for it may be of a newer one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import tomli

from kernelio.boot import read_cmdline
from kernelio.errors import KernelioError, Vanished
from kernelio.layout import Layout
from memreact.settings.boot import AGENT_FILE_WORD, BOOT_ORIGIN, BootSettings, boot_settings
from memreact.settings.errors import SettingsError
from memreact.settings.kata import is_kata, kata_settings
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings, settle
from memreact.settings.tables import config_from
from memreact_schemas.config import DEFAULTS, Config

__all__ = [
    "DROP_INS",
    "FILES",
    "KATA_FILE",
    "files_watched",
    "load",
    "load_file",
    "load_layer",
    "load_text",
    "read_layers",
]

FILES = ("/usr/lib/memreact/memreact.toml", "/etc/memreact/memreact.toml")
DROP_INS = "/etc/memreact/memreact.toml.d"
KATA_FILE = "/etc/kata-containers/configuration.toml"
_FILE_BYTES_MAX = 1 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def load(explicit: str | None = None, *, root: str = "", revision: int = 1) -> Settings:
    """Read all layers but the pushed one, and merge them.

    Args:
        explicit: The file that takes the place of the machine's; it must exist.
        root: Prefix of the machine's files: empty outside of tests.
        revision: Of the settings that are made.

    Raises:
        SettingsError: A file is unreadable, not TOML, or says what it may not.
    """
    return settle(read_layers(explicit, root=root), revision)


def read_layers(explicit: str | None = None, *, root: str = "") -> list[Layer]:
    """Read all layers but the pushed one, weakest first.

    Args:
        explicit: As for `load`.
        root: As for `load`.

    Raises:
        SettingsError: As for `load`.
    """
    boot = _boot(root)
    files = _files_of(root, boot) if explicit is None else [load_layer(explicit)]
    booted = Layer(BOOT_ORIGIN, boot.config, warnings=boot.warnings)
    return [Layer(DEFAULT_ORIGIN, DEFAULTS), *files, booted]


def files_watched(explicit: str | None = None, *, root: str = "") -> tuple[list[str], list[str]]:
    """Name the files that `load` reads, there or not, and the folders of which it reads any."""
    if explicit is not None:
        return [explicit], []
    kata = [path for path, _ in _kata_files(root, _boot(root))]
    return [*(root + file for file in FILES), *kata], [root + DROP_INS]


def _boot(root: str) -> BootSettings:
    try:
        words = read_cmdline(Layout(root))
    except Vanished:
        return BootSettings()  # no /proc is mounted
    except KernelioError as error:
        return BootSettings(warnings=(f"{BOOT_ORIGIN} is not read: {error}",))
    return boot_settings(words)


def _files_of(root: str, boot: BootSettings) -> list[Layer]:
    """Read what there is of the machine's files."""
    layers = []
    for path in (*(root + file for file in FILES), *_drop_ins(root + DROP_INS)):
        data = _read(path)
        if data is not None:
            layers.append(_layer_of(_decoded(data, path), path))
    return [*layers, *_kata_layers(root, boot)]


def _kata_files(root: str, boot: BootSettings) -> list[tuple[str, bool]]:
    """List Kata's files, weakest first, and whether they should be there."""
    named = [(root + boot.agent_file, True)] if boot.agent_file else []
    return [(root + KATA_FILE, False), *named]


def _kata_layers(root: str, boot: BootSettings) -> Iterator[Layer]:
    """Read what Kata's files say of its mem-agent; what else they say is theirs.

    A file that a word of the kernel command line names is taken like the word: one that cannot be
    used is passed over with a warning.
    """
    for path, named in _kata_files(root, boot):
        try:
            yield from _kata_file(path, named=named)
        except SettingsError as error:
            if not named:
                raise
            yield Layer(path, Config(), warnings=(f"{BOOT_ORIGIN}: {AGENT_FILE_WORD}: {error}",))


def _kata_file(path: str, *, named: bool) -> Iterator[Layer]:
    data = _read(path)
    if data is not None:
        value = _toml_of(text := _decoded(data, path), path)
        yield _of_kata(value, path, text)
    elif named:
        warning = f"{BOOT_ORIGIN}: {AGENT_FILE_WORD} names {path}, which does not exist"
        yield Layer(path, Config(), warnings=(warning,))


def _drop_ins(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise SettingsError(folder, f"cannot be listed: {os.strerror(error.errno or 0)}") from error
    wanted = (name for name in names if name.endswith(".toml") and not name.startswith("."))
    return [f"{folder}/{name}" for name in wanted]


def load_file(path: str) -> Config:
    """Read what one file says.

    Raises:
        SettingsError: As for `load_layer`.
    """
    return load_layer(path).config


def load_layer(path: str) -> Layer:
    """Read one file as a layer, in our form or in one of Kata's.

    Raises:
        SettingsError: It is absent, unreadable, not TOML, or says what it may not.
    """
    data = _read(path)
    if data is None:
        raise SettingsError(path, "there is no such file")
    return _layer_of(_decoded(data, path), path)


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe would else be waited for until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str) -> bytes | None:
    """Read a file whole, None if it is absent."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(path, "a plain file", found="something else, such as a pipe")
            data = file.read(_FILE_BYTES_MAX + 1)
    except ValueError as error:  # a NUL in the path
        raise SettingsError(repr(path), "a path without NUL") from error
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise SettingsError(path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise SettingsError(
            path, f"a file of at most {_FILE_BYTES_MAX} bytes", found="a larger one"
        )
    return data


def _decoded(data: bytes, path: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        raise SettingsError(
            path,
            "text in UTF-8",
            found=f"the byte 0x{data[error.start]:02x}",
            line=before.count(b"\n") + 1,
            column=len(before) - before.rfind(b"\n"),
        ) from error


def load_text(text: str, origin: str) -> Config:
    """Read what TOML says: in our form, or in one of Kata's.

    Raises:
        SettingsError: It is not TOML, or says what it may not.
    """
    return _layer_of(text, origin).config


def _layer_of(text: str, origin: str) -> Layer:
    value = _toml_of(text, origin)
    if is_kata(value):
        return _of_kata(value, origin, text)
    return Layer(origin, config_from(value, origin, text))


def _of_kata(value: dict[str, object], origin: str, text: str) -> Layer:
    found = kata_settings(value, origin, text)
    config = config_from(found.tables, origin, text, found.written)
    return Layer(origin, config, warnings=tuple(found.warnings))


def _toml_of(text: str, origin: str) -> dict[str, object]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise SettingsError(
            origin, f"not TOML: {error.msg}", line=error.lineno, column=error.colno
        ) from error
    except RecursionError as error:
        raise SettingsError(origin, "not taken: nested too deeply") from error
    except ValueError as error:  # such as a number of more digits than Python reads
        raise SettingsError(origin, f"not TOML: {error}") from error
