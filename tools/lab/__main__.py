"""The lab's command line: `python -m lab setup | boot | latency | storm | … | clean`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lab.bench.rivals import RIVALS
from lab.bench.series import WORKLOADS, Plan, bench, bench_page
from lab.breakoff import breakoff
from lab.chaos import chaos
from lab.compaction import ROWS, compaction
from lab.crowd import crowd
from lab.demo import demo
from lab.errors import LabError
from lab.guest import Guest
from lab.host import cache_dir, install_missing, remove
from lab.kernels import DEFAULT_KERNEL, KERNELS
from lab.latency import ALL_KINDS, in_guest, natively
from lab.ledger import ledger
from lab.machine import MachineOptions
from lab.record import record
from lab.recording import recording
from lab.scrape import scrape
from lab.stalls import stalls
from lab.storm import storm
from lab.swap import TIERS, swap
from lab.view import view
from lab.watched import watched
from lab.weight import weight_here, weight_in_guest

_REPOSITORY = Path(__file__).resolve().parents[2]
_FIGURE_EVERY_S = 5.0
_CHAOS_S = 600.0


def main(words: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 could not, 2 misused."""
    arguments = _parser().parse_args(words)
    try:
        code = arguments.command(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    assert isinstance(code, int)  # noqa: S101  # argparse keeps no types
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    setup = commands.add_parser("setup", help="install what the host lacks, by apt-get")
    setup.set_defaults(command=_setup)
    boot = commands.add_parser("boot", help="boot a guest and show what the host holds, until ^C")
    boot.set_defaults(command=_boot)
    shell = commands.add_parser("sh", help="run a command in a guest, or a line at a time")
    shell.add_argument("--deb", type=Path, help="install this package first")
    shell.add_argument("line", nargs="*", help="for sh in the guest; none: read them from stdin")
    shell.set_defaults(command=_sh)
    latency = commands.add_parser("latency", help="time the way from a stall to the stop")
    latency.set_defaults(command=_latency)
    latency.add_argument("--deb", type=Path, help="the package to measure; else that of dist")
    latency.add_argument("--kernel", choices=KERNELS, default=DEFAULT_KERNEL)
    latency.add_argument("--rounds", type=int, default=50, help="interruptions of each kind")
    latency.add_argument(
        "--kinds", nargs="+", choices=ALL_KINDS, default=ALL_KINDS, help="what to interrupt by"
    )
    latency.add_argument("--native", action="store_true", help="wake to kick here, without a guest")
    _add_weight(commands.add_parser("weight", help="the memory of an idle daemon, by imports"))
    stormy = commands.add_parser("storm", help="thousands of updates a second, on this machine")
    stormy.set_defaults(command=lambda asked: storm(asked.seconds, asked.rate, asked.disk))
    stormy.add_argument("--seconds", type=float, default=60)
    stormy.add_argument("--rate", type=int, default=1000, help="valid ones a second; and invalid")
    stormy.add_argument("--disk", default="/var/tmp", help="a folder on a disk, to stall on")  # noqa: S108
    scraped = commands.add_parser("scrape", help="Prometheus scrapes two guests through their host")
    scraped.add_argument("--deb", type=Path, help="the package to install; else that of dist")
    scraped.add_argument("--seconds", type=float, default=300)
    scraped.set_defaults(command=lambda asked: scrape(asked.deb or _built_package(), asked.seconds))
    ordinary = commands.add_parser("stalls", help="what a guest stalls while it does this and that")
    ordinary.set_defaults(command=lambda _arguments: stalls())
    recorder = commands.add_parser("record", help="record golden samples of kernel files")
    recorder.add_argument("--into", type=Path, default=_REPOSITORY / "tests" / "golden")
    recorder.set_defaults(command=_record)
    show = commands.add_parser("demo", help="a guest gives memory back, redis keeps its speed")
    show.add_argument("--deb", type=Path, help="default: the one that `make deb` built")
    show.add_argument("--plot", type=Path, default=_REPOSITORY / "build" / "demo.svg")
    show.add_argument("--screens", type=Path, help="put pictures of memreact-top there")
    show.set_defaults(command=_demo)
    _add_looking(commands)
    _add_measurements(commands)
    _add_swap(commands)
    _add_bench(commands)
    for command in (boot, shell, recorder):
        command.add_argument("--kernel", choices=KERNELS, default=DEFAULT_KERNEL)
        command.add_argument("--memory", type=int, default=1024, metavar="MIB")
        command.add_argument("--append", default="", help="more words for the kernel's line")
        command.add_argument("--fresh", action="store_true", help="boot, instead of restoring")
    clean = commands.add_parser("clean", help=f"remove {cache_dir()}'s content")
    clean.set_defaults(command=_clean)
    return parser


def _add_looking(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """What it costs to look inside, and that what is recorded is decided again."""
    recorded = commands.add_parser("recording", help="record a guest's turns, decide them again")
    recorded.set_defaults(command=lambda asked: recording(asked.seconds, asked.keep))
    recorded.add_argument("--seconds", type=float, default=600)
    recorded.add_argument("--keep", type=Path, default=_REPOSITORY / "build" / "recording.jsonl.gz")
    eyes = commands.add_parser("watched", help="whether to be looked at makes the stop later")
    eyes.set_defaults(command=lambda asked: watched(_package(asked), asked.rounds))
    eyes.add_argument("--deb", type=Path, help="default: the one that `make deb` built")
    eyes.add_argument("--rounds", type=int, default=30, help="for each way to watch")
    many = commands.add_parser("crowd", help="memreact-top on thousands of cgroups")
    many.set_defaults(command=lambda asked: crowd(_package(asked), asked.cgroups, asked.seconds))
    many.add_argument("--deb", type=Path, help="default: the one that `make deb` built")
    many.add_argument("--cgroups", type=int, default=2000)
    many.add_argument("--seconds", type=float, default=60)


def _add_measurements(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """What shows that memory goes back, and why the rest does not."""
    pieces = commands.add_parser("compaction", help="what comes back of memory in pieces")
    pieces.set_defaults(command=lambda asked: compaction(_package(asked), asked.into, asked.rows))
    pieces.add_argument("--into", type=Path, default=_REPOSITORY / "build" / "compaction.jsonl")
    pieces.add_argument("--rows", nargs="+", choices=ROWS, default=(), help="measure these anew")
    ends = commands.add_parser("breakoff", help="break compactions off by a real stall")
    ends.set_defaults(command=lambda asked: breakoff(_package(asked), asked.rounds))
    ends.add_argument("--rounds", type=int, default=30)
    seen = commands.add_parser("view", help="two guests in memreact-host view; doctor's proof")
    seen.set_defaults(command=lambda asked: view(_package(asked)))
    books = commands.add_parser("ledger", help="memreact's books beside the host's figure")
    books.set_defaults(command=lambda asked: ledger(_package(asked), asked.seconds))
    books.add_argument("--seconds", type=float, default=600)
    wild = commands.add_parser("chaos", help="faults at random, and what must hold all the while")
    wild.set_defaults(command=lambda asked: chaos(_package(asked), asked.seconds, asked.seed))
    wild.add_argument("--seconds", type=float, default=_CHAOS_S, help="within which faults begin")
    wild.add_argument("--seed", type=int, default=1, help="the same one gives the same plan")
    for command in (pieces, ends, seen, books, wild):
        command.add_argument("--deb", type=Path, help="default: the one that `make deb` built")


def _add_swap(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    swapping = commands.add_parser("swap", help="cold memory goes to the host's file, and to zram")
    swapping.add_argument("--deb", type=Path, help="default: the one that `make deb` built")
    swapping.add_argument("--tiers", nargs="+", choices=TIERS, default=list(TIERS))
    swapping.add_argument(
        "--adds", type=int, default=0, metavar="N", help="time N disks until they are swap instead"
    )
    swapping.set_defaults(command=lambda asked: swap(_package(asked), asked.tiers, asked.adds))


def _add_bench(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    beside = commands.add_parser("bench", help="memreact beside its rivals; goes on where it was")
    beside.add_argument("--deb", type=Path, help="default: the one that `make deb` built")
    beside.add_argument("--results", type=Path, default=_REPOSITORY / "build" / "bench.jsonl")
    beside.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    beside.add_argument("--rivals", nargs="+", choices=RIVALS, default=(), help="only these")
    beside.add_argument("--runs", type=int, default=3)
    beside.add_argument("--seconds", type=float, default=120)
    beside.set_defaults(command=_bench)
    shown = commands.add_parser("bench-page", help="docs/benchmarks.md, of what bench measured")
    shown.add_argument("--results", type=Path, default=_REPOSITORY / "build" / "bench.jsonl")
    shown.add_argument("--into", type=Path, default=_REPOSITORY / "docs" / "benchmarks.md")
    shown.set_defaults(command=lambda asked: bench_page(asked.results, asked.into))


def _open(arguments: argparse.Namespace) -> Guest:
    options = MachineOptions(
        kernel=arguments.kernel, memory_mib=arguments.memory, append=arguments.append
    )
    return Guest.boot(options) if arguments.fresh else Guest.restore(options)


def _setup(_arguments: argparse.Namespace) -> int:
    installed = install_missing()
    print(f"lab: installed {' '.join(installed)}" if installed else "lab: nothing is missing")
    return 0


def _boot(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    with _open(arguments) as guest:
        print(
            f"{guest.release} runs after {time.monotonic() - started:.1f} s; console in "
            f"{guest.serial_log}"
        )
        while True:
            print(f"the host holds {guest.held_bytes() >> 20} MiB of the guest", flush=True)
            time.sleep(_FIGURE_EVERY_S)


def _sh(arguments: argparse.Namespace) -> int:
    with _open(arguments) as guest:
        if arguments.deb:
            guest.install(arguments.deb)
        if arguments.line:
            return _show(guest, " ".join(arguments.line))
        print("guest# ", end="", flush=True)
        for line in sys.stdin:
            _show(guest, line)
            print("guest# ", end="", flush=True)
    return 0


def _show(guest: Guest, line: str) -> int:
    result = guest.run(line, timeout_s=600, check=False)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return 1 if result.code else 0


def _record(arguments: argparse.Namespace) -> int:
    with _open(arguments) as guest:
        names = record(guest, arguments.into / arguments.kernel)
    print(f"lab: {len(names)} files in {arguments.into / arguments.kernel}")
    return 0


def _latency(arguments: argparse.Namespace) -> int:
    if arguments.native:
        return natively()
    return in_guest(arguments.deb, arguments.kernel, arguments.rounds, arguments.kinds)


def _add_weight(weight: argparse.ArgumentParser) -> None:
    weight.set_defaults(command=_weight)
    weight.add_argument("--deb", type=Path, help="the package to weigh; else that of dist")
    weight.add_argument("--kernel", choices=KERNELS, default=DEFAULT_KERNEL)
    weight.add_argument("--native", action="store_true", help="this checkout, on this machine")


def _weight(arguments: argparse.Namespace) -> int:
    if arguments.native:
        return weight_here()
    return weight_in_guest(arguments.deb or _built_package(), arguments.kernel)


def _demo(arguments: argparse.Namespace) -> int:
    return demo(_package(arguments), arguments.plot, arguments.screens)


def _bench(arguments: argparse.Namespace) -> int:
    plan = Plan(arguments.workloads, arguments.rivals, arguments.runs, arguments.seconds)
    return bench(_package(arguments), arguments.results, plan)


def _package(arguments: argparse.Namespace) -> Path:
    chosen: Path | None = arguments.deb
    return chosen or _built_package()


def _built_package() -> Path:
    found = list((_REPOSITORY / "dist").glob("memreact_*.deb"))
    if len(found) != 1:
        raise LabError(f"run `make deb` first: dist has {[str(p) for p in found] or 'no package'}")
    return found[0]


def _clean(_arguments: argparse.Namespace) -> int:
    for path in cache_dir().iterdir():
        remove(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
