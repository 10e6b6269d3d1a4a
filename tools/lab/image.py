"""The root file system: a small Debian 13 with systemd, as one ext4 image."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

from lab.debian import KEYRING, mirror
from lab.host import cache_dir, exclusive, remove, require_packages, run

__all__ = ["INCLUDES", "SUITE", "root_image", "root_image_key"]

SUITE = "trixie"
INCLUDES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps", "util-linux"),
    *("zstd", "qemu-guest-agent", "python3", "redis-server", "redis-tools"),
    # What the package of memreact depends on, so that it installs in a guest without network.
    *("python3-uvloop", "python3-msgspec", "python3-pyroute2", "python3-pyudev", "python3-tomli"),
)
IMAGE_SIZE = "6G"  # sparse: on the host it takes what is written
_OVERLAY = Path(__file__).with_name("rootfs")
# Timers and waits that only cost time in a guest that lives for minutes.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "fstrim.timer", "systemd-networkd-wait-online.service"),
    *("systemd-tmpfiles-clean.timer", "getty@tty1.service", "serial-getty@ttyS0.service"),
)
_FINISH = """
set -eu
tree=$1; archive=$2; overlay=$3; image=$4
mkdir -p "$tree"
tar -C "$tree" --exclude='./dev/*' --numeric-owner -xpf "$archive"
cp -r --no-preserve=ownership "$overlay/." "$tree/"
units=$tree/etc/systemd/system
for unit in MASKED; do ln -sf /dev/null "$units/$unit"; done
rm -f "$units"/multi-user.target.wants/redis-server.service "$units"/redis.service
mkdir -p "$units/multi-user.target.wants" "$tree/usr/lib/modules"
ln -sf ../qemu-guest-agent.service "$units/multi-user.target.wants/"
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/etc/apt/sources.list*
echo guest > "$tree/etc/hostname"
echo '127.0.0.1 localhost guest' > "$tree/etc/hosts"
echo '/dev/vda / ext4 defaults 0 0' > "$tree/etc/fstab"
: > "$tree/etc/machine-id"
head -c 16 /dev/urandom | od -An -vtx1 | tr -d ' \\n' > "$tree/etc/machine-id"
mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0 -d "$tree" "$image" SIZE
rm -rf "$tree"
"""


def root_image_key() -> str:
    """Hash of the recipe: it changes exactly when the image has to be built anew."""
    recipe = hashlib.sha256("\n".join([SUITE, *INCLUDES, _finish_script()]).encode())
    for path in sorted(_OVERLAY.rglob("*")):
        if path.is_file():
            recipe.update(f"{path.relative_to(_OVERLAY)}\0".encode() + path.read_bytes())
    return recipe.hexdigest()[:16]


def root_image() -> Path:
    """Return the image, built first if this recipe has none yet (about a minute).

    Raises:
        MissingPackages: The host lacks something.
        CommandFailed: A step of the build failed.
    """
    image = cache_dir() / f"root-{root_image_key()}.ext4"
    with exclusive("root"):
        if not image.exists():
            require_packages()
            for pattern in ("root-*.ext4", "saved-*"):  # saved guests run from the image
                for stale in cache_dir().glob(pattern):
                    remove(stale)
            print(f"lab: building a Debian {SUITE} root file system in {image}", flush=True)
            _build(image)
    return image


def _build(image: Path) -> None:
    archive = image.with_suffix(".tar")
    tree = image.with_suffix(".tree")
    partial = image.with_suffix(".partial")
    for leftover in (archive, tree, partial):
        remove(leftover)
    _bootstrap(archive)
    words = [str(path) for path in (tree, archive, _OVERLAY, partial)]
    run([*_as_root(), "sh", "-c", _finish_script(), "finish", *words], timeout_s=300)
    partial.rename(image)
    remove(archive)


def _bootstrap(archive: Path) -> None:
    # Documentation and translations are left out: the guest is copied for every test group.
    lean = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    run(
        [
            *("mmdebstrap", "--variant=minbase", f"--keyring={KEYRING}"),
            *lean,
            f"--include={','.join(INCLUDES)}",
            *(SUITE, str(archive), mirror()),
        ],
        timeout_s=900,
        environment={"TMPDIR": str(cache_dir())},
    )


def _as_root() -> list[str]:
    """Words that make a command see itself as root, with every owner kept."""
    return [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]


def _finish_script() -> str:
    return _FINISH.replace("MASKED", shlex.join(_MASKED)).replace("SIZE", IMAGE_SIZE)
