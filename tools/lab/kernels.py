"""Debian kernels by a short name: unpacked, with an initrd and an image of their modules."""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lab.debian import Suite
from lab.errors import LabError
from lab.host import cache_dir, exclusive, remove, require_packages, run

__all__ = ["DEFAULT_KERNEL", "KERNELS", "Kernel", "kernel"]

DEFAULT_KERNEL = "6.12"


class _Origin(NamedTuple):
    suite: str
    package: str  # a pattern over whole package names


KERNELS = {
    "6.1": _Origin("bookworm", r"linux-image-6\.1\.[0-9.]+-[0-9]+-cloud-amd64"),
    "6.12": _Origin("trixie", r"linux-image-6\.12\.[0-9.]+\+deb13-cloud-amd64"),
    "7.x": _Origin("trixie-backports", r"linux-image-7\.[0-9.]+\+deb13-cloud-amd64"),
}

_EARLY_MODULES = ("virtio_pci", "virtio_blk", "virtio_console")
_FOLDERS = ("bin", "dev", "proc", "sys", "root", "modules")
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox grep -q lab.probe /proc/cmdline && {
    echo lab-probe-answers > /dev/ttyS0
    /bin/busybox poweroff -f
}
for module in INSMOD; do /bin/busybox insmod /modules/$module; done
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/usr/lib/modules
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc /sys
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
_FORMAT = "1"  # of what is made below: raise it to have every kernel prepared anew


class Kernel(NamedTuple):
    """Files that boot one kernel.

    Args:
        name: The short name, "6.12".
        release: What uname -r says.
        image: The compressed kernel.
        initrd: Loads the disk driver and mounts the root.
        modules: ext4 image to be mounted on /usr/lib/modules.
    """

    name: str
    release: str
    image: Path
    initrd: Path
    modules: Path


def kernel(name: str) -> Kernel:
    """Return a kernel of KERNELS, downloaded and prepared on its first use.

    Raises:
        LabError: No such name, or its suite has no such package.
    """
    if name not in KERNELS:
        raise LabError(f"no kernel called {name!r}: there are {', '.join(KERNELS)}")
    folder = cache_dir() / f"kernel-{name}-{_FORMAT}"
    with exclusive(f"kernel-{name}"):
        if not (folder / "release").exists():
            require_packages()
            _prepare(KERNELS[name], folder)
    release = (folder / "release").read_text()
    files = (folder / word for word in ("vmlinuz", "initrd", "modules.ext4"))
    return Kernel(name, release, *files)


def _prepare(origin: _Origin, folder: Path) -> None:
    remove(folder)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    suite = Suite(origin.suite)
    suite.update()
    package = suite.newest(origin.package)
    print(f"lab: fetching {package} into {folder}", flush=True)
    release = package.removeprefix("linux-image-")
    # From 7.x on the package only depends on the ones with the binary and the modules.
    parts = [word for word in suite.depends(package) if word.endswith(release)]
    suite.unpack([package, *parts], tree)
    modules = _modules_dir(tree, release)
    shutil.copy(_find_image(tree, release), folder / "vmlinuz")
    run(["depmod", "-b", str(modules.parents[2]), release], timeout_s=60)
    make_initrd(modules, folder)
    size_mib = 32 + 2 * sum(f.stat().st_size for f in modules.rglob("*") if f.is_file()) // 2**20
    make = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0"]
    image = str(folder / "modules.ext4")
    run([*make, "-d", str(modules.parent), image, f"{size_mib}M"], timeout_s=60)
    remove(tree)
    (folder / "release").write_text(release)


def _modules_dir(tree: Path, release: str) -> Path:
    """Folder of the modules, moved below /lib where depmod looks for them."""
    wanted = tree / "lib" / "modules" / release
    merged = tree / "usr" / "lib" / "modules" / release
    if merged.is_dir():
        (tree / "lib").mkdir(exist_ok=True)
        if wanted.is_dir():
            shutil.copytree(wanted, merged, dirs_exist_ok=True)
            remove(wanted)
        (tree / "lib" / "modules").mkdir(exist_ok=True)
        merged.rename(wanted)
    return wanted


def _find_image(tree: Path, release: str) -> Path:
    choices = [tree / "boot" / f"vmlinuz-{release}", tree / "lib/modules" / release / "vmlinuz"]
    for choice in choices:
        if choice.is_file():
            return choice
    raise LabError(f"linux-image-{release} holds no vmlinuz")


def make_initrd(modules: Path, folder: Path) -> None:
    """Write folder/initrd: busybox, the early modules and the script above."""
    tree = folder / "initrd.tree"
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", tree / "bin" / "busybox")
    loads = []
    for path in early_modules(_dependencies(modules), _EARLY_MODULES):
        plain = re.sub(r"\.(xz|zst|gz)$", "", Path(path).name)
        (tree / "modules" / plain).write_bytes(_plain(modules / path))
        loads.append(plain)
    init = tree / "init"
    init.write_text(_INIT.replace("INSMOD", " ".join(loads)))
    init.chmod(0o755)
    archive = "find . | cpio -o -H newc --quiet -R 0:0 > ../initrd"
    run(["sh", "-c", archive], timeout_s=60, cwd=tree)
    remove(tree)


def early_modules(dependencies: dict[str, list[str]], names: Iterable[str]) -> list[str]:
    """Files to load, dependencies first; names that are built in have no file and are left out."""
    by_name = {module_name(path): path for path in dependencies}
    wanted: list[str] = []
    for name in names:
        if path := by_name.get(name):
            # modules.dep lists all dependencies, the deepest last.
            wanted += [p for p in [*reversed(dependencies[path]), path] if p not in wanted]
    return wanted


def module_name(path: str) -> str:
    """Name of a module as the kernel says it, from its file."""
    return Path(path).name.split(".", 1)[0].replace("-", "_")


def _dependencies(modules: Path) -> dict[str, list[str]]:
    lines = (modules / "modules.dep").read_text().splitlines()
    return {path: words.split() for path, _, words in (line.partition(":") for line in lines)}


def _plain(path: Path) -> bytes:
    """The module decompressed: busybox's insmod reads plain files only."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        plain = path.with_suffix("")
        run(["zstd", "-q", "-d", "-f", str(path), "-o", str(plain)], timeout_s=30)
        return plain.read_bytes()
    return path.read_bytes()
