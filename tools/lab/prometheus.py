"""Debian's own Prometheus, unpacked into the cache: nothing is installed, and no service begins."""

from __future__ import annotations

import http.client
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode

import msgspec

from lab.debian import Suite, own_release
from lab.errors import DeadlinePassed, LabError
from lab.host import cache_dir, exclusive, remove, run

__all__ = ["Found", "Prometheus", "free_port", "promtool"]

_PACKAGE = "prometheus"
_PATIENCE_S = 60.0
_POLL_S = 0.1


class Found(NamedTuple):
    """One series that a query found.

    Args:
        labels: With its name as `__name__`, where it has one.
        value: Its last value.
    """

    labels: Mapping[str, str]
    value: float


def _folder() -> Path:
    """Where it is unpacked; fetched when it is needed for the first time."""
    folder = cache_dir() / _PACKAGE / own_release()
    with exclusive(_PACKAGE):
        if not folder.exists():
            unfinished = folder.with_suffix(".new")
            remove(unfinished)
            unfinished.mkdir(parents=True)
            suite = Suite(own_release())
            suite.update()
            suite.unpack([_PACKAGE], unfinished)
            unfinished.rename(folder)
    return folder / "usr" / "bin"


def promtool(*words: str) -> str:
    """Run promtool, and return what it printed.

    Raises:
        CommandFailed: It found something wrong.
    """
    return run([str(_folder() / "promtool"), *words], timeout_s=60)


def free_port() -> int:
    """A port of localhost that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """A server that scrapes some targets, until its `with` block is left.

    Args:
        targets: Ports of localhost, by the name of their job.
        rules: Files of alert rules.
        every_s: Seconds between two scrapes.
    """

    def __init__(
        self, targets: Mapping[str, int], rules: Sequence[Path] = (), *, every_s: int = 1
    ) -> None:
        self._targets = targets
        self._rules = rules
        self._every_s = every_s
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="memreact-prometheus-"))

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        config = self._folder / "prometheus.yml"
        config.write_bytes(msgspec.json.encode(self._config()))  # which is YAML too
        log = (self._folder / "log").open("w")
        command = [
            str(_folder() / "prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        try:
            self.wait_for("vector(1)")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, with all that it stored."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        remove(self._folder)

    def _config(self) -> dict[str, object]:
        jobs = [
            {
                "job_name": job,
                "scrape_timeout": f"{self._every_s * 900}ms",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for job, port in self._targets.items()
        ]
        return {
            "global": {"scrape_interval": f"{self._every_s}s", "evaluation_interval": "1s"},
            "rule_files": [str(path.resolve()) for path in self._rules],
            "scrape_configs": jobs,
        }

    def ask(self, query: str) -> list[Found]:
        """Evaluate a query now.

        Raises:
            LabError: It is refused.
            OSError: Nobody answers.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", f"/api/v1/query?{urlencode({'query': query})}")
            answer = connection.getresponse()
            told = msgspec.json.decode(answer.read())
        finally:
            connection.close()
        if told["status"] != "success":
            raise LabError(f"{query}: {told['error']}")
        return [Found(each["metric"], float(each["value"][1])) for each in told["data"]["result"]]

    def wait_for(self, query: str, count: int = 1) -> list[Found]:
        """Ask until so many series are found.

        Raises:
            DeadlinePassed: They never were; the log's end is in the message.
        """
        deadline = time.monotonic() + _PATIENCE_S
        found: list[Found] = []
        while time.monotonic() < deadline:
            try:
                found = self.ask(query)
            except (OSError, msgspec.DecodeError):  # it starts
                found = []
            if len(found) >= count:
                return found
            time.sleep(_POLL_S)
        log = (self._folder / "log").read_text()[-2000:]
        raise DeadlinePassed(f"{query} finds {len(found)} of {count}\n{log}")
