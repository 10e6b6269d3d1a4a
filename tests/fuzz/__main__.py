"""`make fuzz`: look for bytes that break a target, led by what of the code they reach (atheris).

    python -m tests.fuzz [--seconds 20] [--into build/fuzz] [TARGET …]

Each target runs in a process of its own, from the saved examples on. What breaks it is shown and
left in the folder; so is what reached something new, of which the smallest are worth saving.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.corpus import examples_of

_INSTRUMENTED = ["kernelio", "memreact", "memreact_schemas", "memreact_tools", "tomli"]
_INPUT_MAX = 4096
_HANGS_S = 30
_GRACE_S = 120


def main() -> int:
    """Fuzz each target that is named, or all; 1 where one is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all where none is named")
    parser.add_argument("--seconds", type=int, default=20, help="of each target")
    parser.add_argument("--into", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.one:
        return _fuzz(arguments.one, [*arguments.targets, *rest])
    wanted = arguments.targets or sorted(_targets())
    broken = [name for name in wanted if not _holds(name, arguments.seconds, arguments.into)]
    print(f"{len(wanted)} targets, {len(broken)} broken{': ' if broken else ''}{' '.join(broken)}")
    return int(bool(broken))


def _targets() -> list[str]:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # atheris instruments its imports

    return [*TARGETS]


def _holds(name: str, seconds: int, into: Path) -> bool:
    """Fuzz one in a process of its own, and show what it said where it broke."""
    found = into / name
    found.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples_of(name)):
        (found / f"example-{number}").write_bytes(example)
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, str(found)]
    command += [f"-max_total_time={seconds}", f"-max_len={_INPUT_MAX}", f"-timeout={_HANGS_S}"]
    command += [f"-artifact_prefix={found}/broken-", "-rss_limit_mb=4096"]
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds + _GRACE_S,
    )
    said = done.stdout.decode(errors="replace").splitlines()
    if done.returncode:
        print(f"{name}: broken", *(f"    {line}" for line in said[-40:]), sep="\n", flush=True)
    else:
        print(
            f"{name}: {next((line for line in said[::-1] if 'DONE' in line), 'done')}", flush=True
        )
    return not done.returncode


def _fuzz(name: str, words: list[str]) -> int:
    import atheris  # noqa: PLC0415  # has wheels for few Pythons, and is needed here alone

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # instrumented as it is imported

    atheris.Setup([sys.argv[0], *words], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
