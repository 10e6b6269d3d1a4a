"""The machine that the lab runs on: its packages, its cache folder, its commands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.errors import CommandFailed, DeadlinePassed, MissingPackages

__all__ = [
    "HOST_PACKAGES",
    "cache_dir",
    "exclusive",
    "install_missing",
    "missing_packages",
    "remove",
    "require_packages",
    "run",
]

# The package, and a file whose presence shows that it is there.
HOST_PACKAGES: Mapping[str, str] = {
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "seabios": "/usr/share/seabios/bios-256k.bin",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "e2fsprogs": "/usr/sbin/mke2fs",
    "busybox-static": "/usr/bin/busybox",
    "cpio": "/usr/bin/cpio",
    "kmod": "/usr/sbin/depmod",
    "zstd": "/usr/bin/zstd",
    "uidmap": "/usr/bin/newuidmap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
_ONLY_WITHOUT_ROOT = frozenset({"uidmap"})


def cache_dir() -> Path:
    """Where images, kernels and saved guests are kept: $MEMREACT_LAB_DIR or ~/.cache."""
    chosen = os.environ.get("MEMREACT_LAB_DIR")
    path = Path(chosen) if chosen else Path.home() / ".cache" / "memreact-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def missing_packages() -> tuple[str, ...]:
    """Packages of the host that the lab needs and does not find."""
    skipped: frozenset[str] = _ONLY_WITHOUT_ROOT if os.geteuid() == 0 else frozenset()
    return tuple(
        package
        for package, witness in HOST_PACKAGES.items()
        if package not in skipped and not os.path.exists(witness)
    )


def require_packages() -> None:
    """Stop with the apt-get line to type when something is missing.

    Raises:
        MissingPackages: Something is.
    """
    if missing := missing_packages():
        raise MissingPackages(missing)


def install_missing() -> tuple[str, ...]:
    """Install what is missing by apt-get, through sudo unless root; return what it was."""
    missing = missing_packages()
    if not missing:
        return ()
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    print(
        f"lab: installing on this machine by {' '.join([*prefix, 'apt-get'])}: {' '.join(missing)}",
        flush=True,
    )
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run([*prefix, "apt-get", "-q", "update"], timeout_s=300)
    install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing]
    run([*prefix, *install], timeout_s=900, environment=environment)
    require_packages()
    return missing


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command of the host and return what it printed on stdout.

    Args:
        command: Words; no shell sees them.
        timeout_s: Seconds after which it is killed.
        environment: Set besides our own.
        cwd: Folder to run in.

    Raises:
        CommandFailed: It ended with an error.
        DeadlinePassed: It was killed.
    """
    words = shlex.join(command)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(environment or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlinePassed(f"`{words}` was not done after {timeout_s:.0f} s") from error
    except FileNotFoundError as error:
        raise CommandFailed(words, 127, f"{command[0]}: not found") from error
    if done.returncode:
        raise CommandFailed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold a lock file of the cache, so that two sessions never build the same thing."""
    with (cache_dir() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or folder, which may be gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
