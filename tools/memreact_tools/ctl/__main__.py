"""The command line of memreact-ctl."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from memreact_tools.address import Address, AddressError, parse_address
from memreact_tools.ctl.command_line import ADDRESS, parser
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.guests import addresses_in
from memreact_tools.ctl.keys import Misused
from memreact_tools.plain import plain

__all__ = ["main"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_TIMEOUT_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; 0 done, 1 could not, 2 misused."""
    asked = parser().parse_args(argv)
    try:
        code = _OTHERS.get(asked.verb, _ask)(asked)
        sys.stdout.flush()
    except (Misused, AddressError) as error:
        return _trouble(str(error), _MISUSED)
    except BrokenPipeError:  # as of `memreact-ctl watch | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
        return _DONE
    except (OSError, UnicodeDecodeError) as error:
        return _trouble(str(error), _COULD_NOT)
    except KeyboardInterrupt:
        return _COULD_NOT
    return code


def _connect(asked: argparse.Namespace) -> int:
    from memreact_tools.ctl import connect  # noqa: PLC0415  # the other verbs need no ttRPC

    return connect.run(asked)


def _report(asked: argparse.Namespace) -> int:
    from memreact_tools.ctl.report import report  # noqa: PLC0415  # needs no guest

    return report(asked)


def _record(asked: argparse.Namespace) -> int:
    from memreact_tools.ctl.ask import one_of  # noqa: PLC0415  # needs no ttRPC
    from memreact_tools.ctl.record import record  # noqa: PLC0415

    timeout_s = _TIMEOUT_S if asked.timeout is None else parse_duration(asked.timeout)
    return record(asked, one_of(_addresses(asked)), timeout_s=timeout_s)


def _ask(asked: argparse.Namespace) -> int:
    from memreact_tools.ctl.ask import ask, one_of, tell, watch  # noqa: PLC0415  # needs no ttRPC
    from memreact_tools.ctl.verbs import VERBS  # noqa: PLC0415

    released = asked.verb == "squeeze" and asked.release
    verb = VERBS["squeeze --release" if released else _name(asked)]
    addresses = _addresses(asked)
    if asked.timeout is None:
        timeout_s = _TIMEOUT_S + verb.takes_s(asked)
    else:
        timeout_s = parse_duration(asked.timeout)
    if asked.verb == "watch":
        return watch(verb, asked, one_of(addresses), timeout_s=timeout_s)
    return tell(verb, asked, ask(verb, asked, addresses, timeout_s=timeout_s))


def _name(asked: argparse.Namespace) -> str:
    match asked.verb:
        case "rule":
            return f"rule {asked.rule_verb}"
        case "swap":
            return f"swap {asked.swap_verb}"
    return str(asked.verb)


def _addresses(asked: argparse.Namespace) -> list[Address]:
    """Return the addresses that were named, else the daemon's of this machine."""
    port = asked.hybrid_port
    found = [parse_address(text, hybrid_port=port) for text in asked.address or ()]
    if asked.address_file is not None:
        found += addresses_in(asked.address_file, hybrid_port=port)
    elif not found:
        usual = os.environ.get("MEMREACT_ADDRESS", ADDRESS)
        found = [parse_address(usual, hybrid_port=port)]
    if not found:
        raise Misused(f"{asked.address_file} has no address")
    return found


def _trouble(text: str, code: int) -> int:
    print(f"memreact-ctl: {plain(text)}", file=sys.stderr)
    return code


_OTHERS = {"connect": _connect, "record": _record, "report": _report}

if __name__ == "__main__":
    sys.exit(main())
