"""Build the Debian packages from a wheel: `build_deb.py WHEEL FOLDER`.

The same wheel and SOURCE_DATE_EPOCH give the same bytes. Needs nothing but Python and dpkg-deb, so
a package for Debian 13 can be built on Debian 12.
"""

from __future__ import annotations

import configparser
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from dataclasses import dataclass
from email.utils import formatdate

__all__ = ["PACKAGES", "Package", "build", "debian_version", "main"]

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = "usr/lib/python3/dist-packages"
LAUNCHER = """\
#!/usr/bin/python3 -I
import sys
{path}
from {module} import {function}

sys.exit({function}())
"""
CHANGELOG_ENTRY = """\
{package} ({version}) unstable; urgency=medium

{changes}

 -- {maintainer}  {date}
"""


@dataclass(frozen=True, slots=True)
class Package:
    """What one Debian package takes out of the wheel.

    Args:
        name: Also of its files here: debian/NAME.control, debian/NAME.postinst and so on.
        folders: Top-level folders of the wheel.
        commands: Console scripts of the wheel; those that it lacks are left out.
        units: systemd units in this folder.
        groups: Whether it has system groups: NAME.sysusers in this folder.
        manuals: Manual pages in this folder.
        library: Where the modules go; one that Python does not know is told to the commands.
        shared: Files that another package has too, and that step aside while this one is here.
        examples: Folder here of files that show how it is used with other programs.
        settings: Empty folder, for whoever runs it to write to.
    """

    name: str
    folders: tuple[str, ...]
    commands: tuple[str, ...]
    units: tuple[str, ...]
    manuals: tuple[str, ...]
    groups: bool = False
    library: str = LIBRARY
    shared: tuple[str, ...] = ()
    examples: str = ""
    settings: str = ""


PACKAGES = (
    Package(
        name="memreact",
        folders=("memreact", "kernelio", "memreact_schemas", "memreact_tools"),
        commands=("memreact", "memreact-ctl", "memreact-vsock", "memreact-top"),
        units=("memreact.service", "memreact-put-back.service"),
        groups=True,
        settings="etc/memreact/memreact.toml.d",
        manuals=("memreact.8", "memreact-ctl.1", "memreact-top.1", "memreact-vsock.1"),
    ),
    Package(
        name="memreact-host",
        folders=("memreact_schemas", "memreact_tools"),
        commands=("memreact-host", "memreact-ctl", "memreact-top", "memreact-vsock"),
        units=(),
        manuals=("memreact-host.1", "memreact-ctl.1", "memreact-top.1", "memreact-vsock.1"),
        library="usr/share/memreact-host",
        examples="metrics",
        shared=(
            "usr/bin/memreact-ctl",
            "usr/bin/memreact-top",
            "usr/bin/memreact-vsock",
            "usr/share/bash-completion/completions/memreact-ctl",
            "usr/share/bash-completion/completions/memreact-top",
            "usr/share/man/man1/memreact-ctl.1.gz",
            "usr/share/man/man1/memreact-top.1.gz",
            "usr/share/man/man1/memreact-vsock.1.gz",
        ),
    ),
)


def main(arguments: list[str]) -> int:
    """Build every package of the table and print where each went."""
    if len(arguments) != 2:  # noqa: PLR2004  # a wheel and a folder
        sys.stderr.write("usage: build_deb.py WHEEL FOLDER\n")
        return 2
    if shutil.which("dpkg-deb") is None:
        sys.stderr.write("dpkg-deb is missing: this needs a Debian machine\n")
        return 1
    wheel, folder = arguments
    for package in PACKAGES:
        sys.stdout.write(build(package, wheel, folder, moment=_moment()) + "\n")
    return 0


def build(package: Package, wheel: str, folder: str, *, moment: int) -> str:
    """Write `folder`/NAME_VERSION_all.deb and return its path.

    Args:
        package: What to build.
        wheel: Path of the wheel.
        folder: Where the package goes.
        moment: Seconds since 1970 that every file in it carries.
    """
    version = debian_version(os.path.basename(wheel).split("-")[1])
    with tempfile.TemporaryDirectory() as stage:
        with zipfile.ZipFile(wheel) as archive:
            _stage_modules(package, archive, stage)
            _stage_commands(package, archive, stage)
        _stage_units(package, stage)
        _stage_completions(package, stage)
        _stage_manuals(package, stage, version)
        _stage_documents(package, stage, version, moment)
        _stage_examples(package, stage)
        os.makedirs(os.path.join(stage, package.settings), exist_ok=True)
        _stage_control(package, stage, version)
        _normalise(stage, moment)
        target = os.path.join(folder, f"{package.name}_{version}_all.deb")
        _pack(stage, target, moment)
    return target


def debian_version(version: str) -> str:
    """Turn a Python version into one that Debian sorts alike: 1.0.dev1, 1.0rc1, 1.0."""
    return re.sub(r"(a|b|rc)(\d+)", r"~\1\2", version).replace(".dev", "~~dev")


def _stage_modules(package: Package, archive: zipfile.ZipFile, stage: str) -> None:
    """Unpack the folders, and of the metadata what importlib.metadata reads."""
    metadata = r"[^/]+\.dist-info/(METADATA|entry_points\.txt)"
    kept = re.compile(metadata if package.library == LIBRARY else r"(?!)")
    for name in archive.namelist():
        if name.split("/")[0] in package.folders or kept.fullmatch(name):
            archive.extract(name, os.path.join(stage, package.library))


def _stage_commands(package: Package, archive: zipfile.ZipFile, stage: str) -> None:
    """Write a launcher that neither the environment nor the current folder can lead astray."""
    scripts = _console_scripts(archive)
    own = f'\nsys.path.insert(0, "/{package.library}")\n'
    path = "" if package.library == LIBRARY else own
    for command in package.commands:
        if command in scripts:
            module, function = scripts[command].split(":")
            text = LAUNCHER.format(path=path, module=module, function=function)
            _write(stage, f"usr/bin/{command}", text.encode(), mode=0o755)


def _console_scripts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return command -> module:function as the wheel says."""
    entries = configparser.ConfigParser(delimiters=("=",))
    for name in archive.namelist():
        if name.endswith(".dist-info/entry_points.txt"):
            entries.read_string(archive.read(name).decode())
    return dict(entries["console_scripts"])


def _stage_units(package: Package, stage: str) -> None:
    for unit in package.units:
        _write(stage, f"usr/lib/systemd/system/{unit}", _source(unit))
    if package.groups:
        groups = _source(f"{package.name}.sysusers")
        _write(stage, f"usr/lib/sysusers.d/{package.name}.conf", groups)


def _stage_completions(package: Package, stage: str) -> None:
    """Write what the shell completes; of a command that the wheel lacks it is left out."""
    for command in package.commands:
        source = f"completions/{command}"
        staged = os.path.exists(os.path.join(stage, "usr/bin", command))
        if staged and os.path.exists(os.path.join(HERE, source)):
            _write(stage, f"usr/share/bash-completion/{source}", _source(source))


def _stage_manuals(package: Package, stage: str, version: str) -> None:
    """Write the pages; one of a command that the wheel lacks is left out."""
    for manual in package.manuals:
        command, section = manual.rsplit(".", 1)
        if not os.path.exists(os.path.join(stage, "usr/bin", command)):
            continue
        text = _source(manual).replace(b"@VERSION@", version.encode())
        _write(stage, f"usr/share/man/man{section}/{manual}.gz", _gzipped(text))


def _stage_documents(package: Package, stage: str, version: str, moment: int) -> None:
    """Write the copyright file and the changelog, which Debian wants in a form of its own."""
    documents = f"usr/share/doc/{package.name}"
    entry = CHANGELOG_ENTRY.format(
        package=package.name,
        version=version,
        changes=_changes(version),
        maintainer=_maintainer(package),
        date=formatdate(moment),
    )
    _write(stage, f"{documents}/changelog.gz", _gzipped(entry.encode()))
    _write(stage, f"{documents}/copyright", _source("debian/copyright"))


def _stage_examples(package: Package, stage: str) -> None:
    for name in (
        sorted(os.listdir(os.path.join(HERE, package.examples))) if package.examples else ()
    ):
        source = _source(f"{package.examples}/{name}")
        _write(stage, f"usr/share/doc/{package.name}/examples/{name}", source)


def _changes(version: str) -> str:
    """Return this version's items, or else the unreleased ones, in lines that Debian takes."""
    with open(os.path.join(os.path.dirname(HERE), "CHANGELOG.md"), encoding="utf-8") as file:
        sections = re.split(r"^## \[(.+?)\].*$", file.read(), flags=re.MULTILINE)
    by_name = dict(zip(sections[1::2], sections[2::2], strict=True))
    text = by_name.get(version, by_name["Unreleased"])
    items = re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE)
    return "\n".join(
        textwrap.fill(" ".join(item.split()), 78, initial_indent="  * ", subsequent_indent="    ")
        for item in items
    )


def _maintainer(package: Package) -> str:
    control = _source(f"debian/{package.name}.control").decode()
    found = re.search(r"^Maintainer: (.+)$", control, re.MULTILINE)
    if found is None:
        raise ValueError(f"debian/{package.name}.control names no Maintainer")
    return found[1]


def _stage_control(package: Package, stage: str, version: str) -> None:
    """Write the control file, the scripts and the checksums of all that is staged so far."""
    sums, size_kib = _inventory(stage)
    control = _source(f"debian/{package.name}.control")
    control = control.replace(b"@VERSION@", version.encode())
    control = control.replace(b"@INSTALLED_SIZE@", str(size_kib).encode())
    _write(stage, "DEBIAN/control", control)
    _write(stage, "DEBIAN/md5sums", sums)
    for script in ("preinst", "postinst", "prerm", "postrm"):
        name = f"debian/{package.name}.{script}"
        if os.path.exists(os.path.join(HERE, name)):
            text = _source(name).replace(b"@SHARED@", _shared(package, stage).encode())
            _write(stage, f"DEBIAN/{script}", text, mode=0o755)


def _shared(package: Package, stage: str) -> str:
    """Return those of the shared files that are staged, as words of the shell."""
    staged = [name for name in package.shared if os.path.exists(os.path.join(stage, name))]
    return " ".join(f"/{name}" for name in staged)


def _inventory(stage: str) -> tuple[bytes, int]:
    """Return the lines of md5sums, and the size that the files take installed, in KiB."""
    lines = []
    size_kib = 0
    for path in _files(stage):
        with open(path, "rb") as file:
            content = file.read()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        lines.append(f"{digest}  {os.path.relpath(path, stage)}\n")
        size_kib += (len(content) + 1023) // 1024
    return "".join(lines).encode(), size_kib


def _files(stage: str) -> list[str]:
    return sorted(os.path.join(top, name) for top, _, names in os.walk(stage) for name in names)


def _normalise(stage: str, moment: int) -> None:
    """Make modes and times the same wherever the package is built."""
    for path in _files(stage):
        os.chmod(path, 0o755 if os.access(path, os.X_OK) else 0o644)
        os.utime(path, (moment, moment))
    for top, _, _ in os.walk(stage, topdown=False):
        os.chmod(top, 0o755)  # noqa: S103  # as all folders of a package
        os.utime(top, (moment, moment))


def _pack(stage: str, target: str, moment: int) -> None:
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zxz", "-b", stage, target],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(moment)},
    )


def _source(name: str) -> bytes:
    with open(os.path.join(HERE, name), "rb") as file:
        return file.read()


def _write(stage: str, name: str, content: bytes, *, mode: int = 0o644) -> None:
    path = os.path.join(stage, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=9, mtime=0)


def _moment() -> int:
    """Return SOURCE_DATE_EPOCH, else when the changelog was last written, in seconds since 1970."""
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    changelog = os.path.join(os.path.dirname(HERE), "CHANGELOG.md")
    return int(stated) if stated else int(os.stat(changelog).st_mtime)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
