"""`make bench-native`: what the parts of memreact cost on this machine, by pyperf.

Prints what pyperf prints, and appends a line for each part to the result file.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pyperf

from kernelio.mglru import parse_lru_gen
from lab.bench.machine import commit, this_machine
from lab.bench.results import Micro, line_of
from lab.bench.scenes import RULES, Scene
from lab.host import run
from lab.latency_figures import kicks_of
from lab.workloads.kick import generations_of
from memreact.control.store import SettingsStore
from memreact.control.ttrpc_frames import REQUEST, Framer, framed
from memreact.events import Instant
from memreact.run_dir import PushedFile
from memreact.settings.files import read_layers
from memreact.telemetry.cgroup_rows import CgroupRows
from memreact.telemetry.status import Surroundings, status_of
from memreact_schemas import control
from memreact_schemas.agent import MEMCG_CONFIG, MemAgentMemcgConfig, Request
from memreact_schemas.agent import REQUEST as REQUEST_TABLE
from memreact_schemas.config import Config, Memcg
from memreact_schemas.protobuf import decode, encode
from memreact_schemas.varlink import Call

_MEMCGS = (10, 1_000, 10_000)
_ROWS_AT_ONCE = 64
_ASKED_ABOUT = 2_000
_PROCESSES, _VALUES = 6, 3
_STARTED = Instant(0)
_KICK = "a real pressure trigger to the kick, later than a bare poll returns"
_KICKS, _KICKS_S = 30, 300
_DISK = "/var/tmp"  # noqa: S108  # a file without a name for anybody
KICK_WORDS = ("--pressure", _DISK, "--rounds", str(_KICKS))
"""How lab.workloads.kick is called."""

Bench = Callable[[], object]


def main() -> None:
    """Measure all parts, or those that pyperf's own options choose."""
    runner = pyperf.Runner(
        processes=_PROCESSES, values=_VALUES, program_args=("-m", "lab.bench.native")
    )
    runner.argparser.add_argument("--results", type=Path, help="append to this file")
    runner.argparser.set_defaults(inherit_environ=["PYTHONPATH"])
    arguments = runner.parse_args()
    machine = this_machine()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, make) in enumerate(_benches(folder)):
            mine = arguments.worker and arguments.worker_task == number
            measured = runner.bench_func(name, make() if mine else _nothing)
            if measured is None or arguments.worker or arguments.results is None:
                continue
            values_us = tuple(value * 1e6 for value in measured.get_values())
            _keep(arguments.results, Micro(name, values_us, commit(), machine))
    if not arguments.worker and arguments.results is not None:
        print("waiting for a real pressure trigger to fire, 30 times", flush=True)
        _keep(arguments.results, Micro(_KICK, _kicks(), commit(), machine))


def _keep(results: Path, measured: Micro) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("ab") as file:
        file.write(line_of(measured))


def _kicks() -> tuple[float, ...]:
    """From the wake by a real trigger, as a bare poll sees it, to the kick of the worker."""
    command = [sys.executable, "-m", "lab.workloads.kick", *KICK_WORDS]
    return tuple(float(each.wake_to_kick_us) for each in kicks_of(run(command, timeout_s=_KICKS_S)))


def _benches(folder: str) -> Iterator[tuple[str, Callable[[], Bench]]]:
    """Names, and what makes what is measured: only of the one that a worker measures."""
    for memcgs in _MEMCGS:
        yield f"parse lru_gen of {memcgs:,} cgroups", partial(_parse, memcgs)
    yield "decide on a stall in the middle of an eviction, 1,000 cgroups", _decide_on_a_stall
    yield "plan a turn over 1,000 cgroups", _plan
    yield "put a settings update in force, saved to disk", partial(_update, folder)
    yield f"make and encode the status of {_ASKED_ABOUT:,} cgroups", partial(_status, keep=False)
    yield f"the same again, of the same {_ASKED_ABOUT:,}", partial(_status, keep=True)
    yield "decode a settings call of Varlink", _varlink
    yield "decode a settings call of ttRPC", _ttrpc


def _nothing() -> None:
    """Stand where somebody else measures."""


def _parse(memcgs: int) -> Bench:
    lines = generations_of(memcgs)

    def parse() -> None:
        for _ in parse_lru_gen(lines, "lru_gen"):
            pass

    return parse


def _decide_on_a_stall() -> Bench:
    scene = Scene(1_000)
    scene.eviction_begins()
    return partial(scene.step, scene.stall())


def _plan() -> Bench:
    scene = Scene(1_000)
    scene.turn_begins()
    return partial(scene.step, scene.survey())


def _update(folder: str) -> Bench:
    pushed = PushedFile(os.path.join(folder, "pushed"))
    store = SettingsStore(lambda: read_layers(root=folder), lambda _settings: None, pushed)
    # The other value each time, so that there is something to do.
    patches = itertools.cycle([Config(memcg=Memcg(period_secs=secs)) for secs in (300, 301)])
    return lambda: store.patch(next(patches), by="bench")


def _status(*, keep: bool) -> Bench:
    scene, rows = Scene(_ASKED_ABOUT), CgroupRows()
    scene.eviction_begins()
    around = Surroundings("bench", _STARTED)
    encoder = msgspec.json.Encoder()

    def tell() -> bytes:
        telling = rows.tell(scene.state, RULES, scene.now, keep=keep)
        for _ in telling.pieces(_ROWS_AT_ONCE):
            pass
        brief = status_of(
            scene.state, RULES, scene.now, around, next_eviction=telling.next_eviction
        )
        return encoder.encode(control.StatusAnswer(status=telling.within(brief)))

    return tell


def _varlink() -> Bench:
    call = b'{"method":"io.memreact.PatchSettings","parameters":{"patch":{"memcg":{"swap":true}}}}'
    of_the_method = msgspec.json.Decoder(control.PatchSettings)
    return lambda: of_the_method.decode(msgspec.json.decode(call, type=Call).parameters)


def _ttrpc() -> Bench:
    payload = encode(MEMCG_CONFIG, MemAgentMemcgConfig(swap=True, period_secs=300))
    request = Request(service="grpc.AgentService", method="MemAgentMemcgSet", payload=payload)
    data = framed(1, REQUEST, encode(REQUEST_TABLE, request))

    def read() -> MemAgentMemcgConfig:
        (frame,) = Framer().feed(data)
        return decode(MEMCG_CONFIG, decode(REQUEST_TABLE, frame.body).payload)

    return read


if __name__ == "__main__":
    main()
