"""What the files of the project may name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Standards and documentation. What packages and images come from is the machine's own affair.
HOSTS = {
    "docs.kernel.org",
    "docs.python.org",
    "git.kernel.org",
    "keepachangelog.com",
    "lore.kernel.org",
    "manpages.debian.org",
    "purl.org",
    "semver.org",
    "varlink.org",
    "www.apache.org",
    "www.debian.org",
    "www.kernel.org",
    "www.w3.org",
}
HOST = re.compile(r"\b(?:https?|git|ssh|ftp)://(?:[^\s/@]+@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
# Where some machine happens to keep its checkouts.
FOLDER = re.compile(r"(?<![\w.}])/(?:work|home)/\w")


def _texts() -> list[tuple[str, str]]:
    """Return name and content of each text file that git holds."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    names = listed.stdout.decode().rstrip("\0").split("\0")
    contents = [(name, (ROOT / name).read_bytes()) for name in names if (ROOT / name).is_file()]
    return [
        (name, content.decode(errors="replace"))
        for name, content in contents
        if b"\0" not in content
    ]


def _strange_hosts(text: str) -> list[str]:
    return [host for host in HOST.findall(text) if host not in HOSTS]


def test_no_file_names_a_host_that_something_is_fetched_from() -> None:
    assert not [(name, host) for name, text in _texts() for host in _strange_hosts(text)]


def test_no_file_names_a_folder_of_some_machine() -> None:
    found = [(name, FOLDER.findall(text)) for name, text in _texts() if name != _own_name()]
    assert not [each for each in found if each[1]]


@pytest.mark.parametrize("host", ["registry.example.org", "deb.example.net"])
def test_a_strange_host_is_noticed(host: str) -> None:
    scheme = "https"
    assert _strange_hosts(f"fetch it from {scheme}://{host}/simple, then") == [host]


def test_a_folder_of_some_machine_is_noticed() -> None:
    folder = "work"  # written apart, so that this file names none either
    assert FOLDER.search(f"cd /{folder}/here")
    assert not FOLDER.search("a share of the /workingset, tests/work/x or ./home/y")


def _own_name() -> str:
    return str(Path(__file__).relative_to(ROOT))
