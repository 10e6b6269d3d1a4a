from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.process import has_capability
from kernelio.taskstats import Answer, TaskDelays, Taskstats, parse_delays

_MAY_ASK = has_capability("CAP_NET_ADMIN")
_asks = pytest.mark.skipif(not _MAY_ASK, reason="only CAP_NET_ADMIN may ask for taskstats")
_NO_SUCH_PROCESS = 4_194_305  # above the largest pid_max
_OFFSETS = {"cpu": 24, "block_io": 40, "swap_in": 56}
_OFFSETS |= {"reclaim": 320, "thrashing": 336, "compact": 360}
_NS = st.integers(0, 2**64 - 1)


def _stats(version: int, length: int, **delays: int) -> bytes:
    """A struct taskstats of a kernel, so many bytes long."""
    stats = bytearray(max(length, 368))
    struct.pack_into("=H", stats, 0, version)
    for name, nanoseconds in delays.items():
        struct.pack_into("=Q", stats, _OFFSETS[name], nanoseconds)
    return bytes(stats[:length])


@given(
    st.sampled_from([(13, 416), (14, 432), (16, 560), (17, 560)]),
    st.fixed_dictionaries(dict.fromkeys(_OFFSETS, _NS)),
)
def test_reads_back_every_delay_of_the_versions_that_agree(
    kernel: tuple[int, int], delays: dict[str, int]
) -> None:
    read = parse_delays(_stats(*kernel, **delays))
    assert read == TaskDelays(**{f"{name}_us": value // 1000 for name, value in delays.items()})


def test_what_an_old_kernel_does_not_say_is_none() -> None:
    assert parse_delays(_stats(8, 328, cpu=7000, reclaim=5000)) == TaskDelays(
        7, 0, 0, 5, None, None
    )
    assert parse_delays(_stats(10, 352, thrashing=9000)).compact_us is None


def test_version_15_has_a_layout_of_its_own_and_is_refused() -> None:
    with pytest.raises(Unsupported, match="version 15"):
        parse_delays(_stats(15, 560))


@given(st.binary(max_size=600))
def test_any_bytes_parse_or_say_why_not(stats: bytes) -> None:
    with suppress(MalformedReading, Unsupported):
        assert parse_delays(stats).cpu_us >= 0


@_asks
def test_a_process_that_waited_for_the_cpu_has_a_delay_that_grows() -> None:
    stats = Taskstats.open()
    before = stats.read_delays(os.getpid())
    busy = [sys.executable, "-c", "while True: pass"]
    rivals = [subprocess.Popen(busy) for _ in range((os.cpu_count() or 1) + 1)]
    after = before
    while after.cpu_us == before.cpu_us:
        sum(range(100_000))
        after = stats.read_delays(os.getpid())
    for rival in rivals:
        rival.kill()
        rival.wait()
    stats.close()
    assert after.cpu_us > before.cpu_us


@_asks
def test_a_process_that_is_not_there_has_vanished() -> None:
    stats = Taskstats.open()
    with pytest.raises(Vanished, match=str(_NO_SUCH_PROCESS)):
        stats.read_delays(_NO_SUCH_PROCESS)
    stats.close()


@_asks
def test_answers_tell_whose_they_are_and_reading_never_waits() -> None:
    stats = Taskstats.open()
    assert stats.read() == []
    wanted = [os.getpid(), _NO_SUCH_PROCESS, os.getppid()]
    for tgid in wanted:
        stats.request(tgid)
    answers: list[Answer] = []
    while len(answers) < len(wanted):
        assert select.select([stats], [], [], 5)[0]
        answers += stats.read()
    assert [answer.tgid for answer in answers] == wanted
    assert [answer.delays is None for answer in answers] == [False, True, False]
    assert stats.read() == []
    stats.close()


@_asks
def test_one_read_takes_a_bounded_number_of_answers() -> None:
    stats = Taskstats.open()
    for _ in range(100):
        stats.request(os.getpid())
    first = stats.read()
    assert 0 < len(first) < 100
    assert len(first) + len(stats.read()) == 100
    stats.close()


@_asks
def test_answers_that_found_no_room_are_lost_and_later_ones_are_not() -> None:
    stats = Taskstats.open()
    for _ in range(5000):
        stats.request(os.getpid())
    answers = 0
    while select.select([stats], [], [], 0)[0]:
        answers += len(stats.read())
    assert answers < 5000
    assert stats.read_delays(os.getpid()).cpu_us >= 0
    stats.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_without_permission_the_kernels_no_is_told() -> None:
    program = (
        "import os\n"
        "from kernelio.errors import Unsupported\n"
        "from kernelio.taskstats import Taskstats\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    Taskstats.open().read_delays(os.getpid())\n"
        "except Unsupported as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert said == "netlink:TASKSTATS: Operation not permitted\n"
