"""The command line of memreact-host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from memreact_schemas.control import PORT
from memreact_tools import __version__
from memreact_tools.host.kata_file import (
    KataFile,
    Standing,
    Unreadable,
    findings,
    set_option,
    standings,
)
from memreact_tools.host.kata_options import BadValue, UnknownOption, option_named
from memreact_tools.host.metrics.commands import add_words as add_metrics
from memreact_tools.host.metrics.commands import metrics
from memreact_tools.host.replace_file import read_text, replace_text
from memreact_tools.host.swap.commands import add_words, swap
from memreact_tools.host.toml_text import CannotEdit
from memreact_tools.plain import plain

__all__ = ["main"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; 0 done or all is well, 1 could not or something is missing, 2 misused."""
    asked = _parser().parse_args(argv)
    if asked.subject == "view":
        from memreact_tools.host.view import view  # noqa: PLC0415  # only when asked for

        return view(asked)
    if asked.subject == "metrics":
        return metrics(asked)
    if asked.subject == "swap":
        return swap(asked)
    act = {"check": _check, "set": _set}[asked.verb]
    try:
        return act(asked)
    except (UnknownOption, BadValue) as error:
        return _trouble(str(error), _MISUSED)
    except (Unreadable, CannotEdit, UnicodeDecodeError) as error:
        return _trouble(f"{asked.file}: {error}", _COULD_NOT)
    except OSError as error:
        return _trouble(str(error), _COULD_NOT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memreact-host", description="What runs beside virtual machines, not in them."
    )
    parser.add_argument("--version", action="version", version=f"memreact-host {__version__}")
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    kata = subjects.add_parser("kata", help="the configuration of Kata Containers")
    verbs = kata.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser("check", help="what is on, and what is missing")
    check.add_argument("--json", action="store_true", help="for programs")
    change = verbs.add_parser("set", help="set options, keep every other byte")
    change.add_argument("--dry-run", action="store_true", help="print what would change")
    for verb in (check, change):
        verb.add_argument("file", metavar="FILE", help="a configuration.toml")
        verb.add_argument("--hypervisor", metavar="NAME", help="of [hypervisor.NAME]")
    change.add_argument("options", nargs="+", metavar="OPTION=VALUE", help="as in memcg_swap=true")
    _add_view(subjects.add_parser("view", help="what is held of each guest, and why"))
    add_words(subjects.add_parser("swap", help="disks of running guests to swap to"), _seconds)
    add_metrics(subjects.add_parser("metrics", help="the metrics of many guests as one"), _seconds)
    return parser


def _add_view(view: argparse.ArgumentParser) -> None:
    forms = "pid:N or qmp:/PATH, with =ADDRESS where it is not known; all that are found if none is"
    view.add_argument("guests", nargs="*", metavar="GUEST", help=forms)
    view.add_argument("--tell", action="store_true", help="tell each guest what is held of it")
    view.add_argument("--port", type=int, default=PORT, metavar="N", help="where memreact listens")
    view.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="for each")
    view.add_argument("--json", action="store_true", help="for programs")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _check(asked: argparse.Namespace) -> int:
    file = KataFile.parse(read_text(asked.file), hypervisor=asked.hypervisor)
    found, wrong = standings(file), findings(file)
    print(_as_json(found, wrong) if asked.json else _as_text(found, wrong))
    return _COULD_NOT if wrong else _DONE


def _as_text(found: list[Standing], wrong: list[str]) -> str:
    lines = []
    table = None
    for each in found:
        if each.table != table:
            table = each.table
            lines.append(f"[{table}]" if table else "the agent's file")
        lines.append(f"  {each.option.name:36} {_in_words(each)}")
    lines += [f"! {finding}" for finding in wrong] or ["memory can reach the host"]
    return "\n".join(plain(line) for line in lines)


def _in_words(each: Standing) -> str:
    if each.how == "set":
        return _toml(each.value)
    how = "commented out" if each.how == "commented" else "not there"
    return f"{_toml(each.option.default)}, the default ({how})"


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _as_json(found: list[Standing], wrong: list[str]) -> str:
    import json  # noqa: PLC0415  # only when asked for

    options = {
        each.option.name: {
            "table": each.table,
            "how": each.how,
            "value": each.value,
            "in_force": each.in_force,
        }
        for each in found
    }
    return json.dumps({"options": options, "findings": wrong}, indent=2, default=str)


def _set(asked: argparse.Namespace) -> int:
    before = file = KataFile.parse(read_text(asked.file), hypervisor=asked.hypervisor)
    for pair in asked.options:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadValue(f"{pair!r} is not OPTION=VALUE")
        file = set_option(file, option_named(name.strip()), value.strip())
    if asked.dry_run:
        sys.stdout.write(_difference(asked.file, before.text, file.text))
    elif file.text != before.text:
        replace_text(asked.file, file.text)
    return _DONE


def _difference(name: str, before: str, after: str) -> str:
    from difflib import unified_diff  # noqa: PLC0415  # only when asked for

    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    lines = unified_diff(old, new, name, name)
    return "".join(plain(line.rstrip("\r\n")) + "\n" for line in lines)


def _trouble(text: str, code: int) -> int:
    print(f"memreact-host: {plain(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
