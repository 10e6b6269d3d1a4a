"""Debian's real Prometheus: it scrapes a daemon and the host's gatherer, and takes our rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.prometheus import Found, Prometheus, free_port, promtool
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import full_guest
from tests.memreact.test_daemon import Running
from tests.memreact.test_daemon_control import SLOW, Caller

ALERTS = Path(__file__).parents[2] / "packaging/metrics/alerts.yml"
RULES_TEST = Path(__file__).with_name("alerts_test.yml")


def test_promtool_takes_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    assert "SUCCESS: 9 rules found" in promtool("check", "rules", str(ALERTS))
    shutil.copy(ALERTS, tmp_path / ALERTS.name)
    test = shutil.copy(RULES_TEST, tmp_path / RULES_TEST.name)
    assert "SUCCESS" in promtool("test", "rules", str(test))


@pytest.fixture(scope="module")
def guest() -> Iterator[FakeGuest]:
    """A guest below a short path: the name of a unix socket has 107 bytes."""
    root = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield full_guest(FakeGuest(root))
    shutil.rmtree(root)


@contextmanager
def gatherer(port: int, *guests: str) -> Iterator[None]:
    """memreact-host metrics, on a port of localhost."""
    words = [sys.executable, "-m", "memreact_tools.host", "metrics", "--listen", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*words, *guests], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            assert str(port) in process.stderr.readline()
            yield
        finally:
            process.kill()


def one(found: list[Found]) -> float:
    (series,) = found
    return series.value


def test_it_scrapes_a_daemon_over_localhost_and_many_by_way_of_the_host(guest: FakeGuest) -> None:
    direct, gathered = free_port(), free_port()
    daemon = Running(guest, SLOW, "uvloop")
    with closing(daemon):
        daemon.hears("READY=1")
        caller = Caller(guest)
        with closing(caller):
            caller.asks("PatchSettings", patch={"control": {"metrics_tcp_port": direct}})
            caller.asks("RunNow")
            daemon.tells("action=turn")
            status = caller.asks("GetStatus")["status"]
        there = f"shop=unix:{guest.path('/run/memreact/metrics.sock')}"
        targets = {"guest": direct, "host": gathered}
        with (
            gatherer(gathered, there, "gone=unix:/nowhere"),
            Prometheus(targets, [ALERTS]) as prometheus,
        ):
            _is_scraped(prometheus, status)


def _is_scraped(prometheus: Prometheus, status: dict[str, Any]) -> None:
    assert {each.labels["job"] for each in prometheus.wait_for("up == 1", 2)} == {"guest", "host"}
    prometheus.wait_for("memreact_turns_total", 2)
    up = {each.labels["guest"]: each.value for each in prometheus.ask("memreact_up")}
    assert up == {"shop": 1, "gone": 0}
    shop = next(each for each in status["cgroups"] if each["path"] == "/shop")
    for where in ('job="guest"', 'job="host",guest="shop"'):
        own = f'{where},cgroup="/shop"'
        assert one(prometheus.ask(f"memreact_turns_total{{{where}}}")) == status["turns"] == 1
        cold = one(prometheus.ask(f"memreact_cgroup_cold_bytes{{{own}}}"))
        assert cold == shop["cold_bytes"]
        evicted = one(prometheus.ask(f"memreact_cgroup_evicted_bytes_total{{{own}}}"))
        assert evicted == shop["counters"]["evicted_bytes"]
        doing = prometheus.ask(f"memreact_doing{{{where}}} == 1")
        assert [each.labels["memreact_doing"] for each in doing] == ["resting"]
    quantile = "histogram_quantile(1, memreact_memory_age_seconds_bucket)"
    assert len(prometheus.ask(quantile)) == 2 * len(("anon", "file"))
    pending = prometheus.wait_for('ALERTS{alertname="MemreactSilent"}')
    assert [each.labels["guest"] for each in pending] == ["gone"]
