"""Write bash completion for every command from its parser: `completion.py FOLDER`.

The files are committed, and a test holds them to the parsers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping

from memreact.__main__ import _parser as memreact
from memreact_tools.ctl.command_line import parser as ctl
from memreact_tools.ctl.keys import key_names
from memreact_tools.host.__main__ import _parser as host
from memreact_tools.top.command_line import parser as top

__all__ = ["COMMANDS", "completion", "main", "words_of"]

COMMANDS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "memreact": memreact,
    "memreact-ctl": ctl,
    "memreact-host": host,
    "memreact-top": top,
}

_HEAD = """\
# bash completion for {name}, written by packaging/completion.py from its parser.

_{function}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path= each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $each" in
{steps}
        esac
    done
    case "$path $before" in
{values}
    esac
    case "$path" in
{words}
    esac
}}
complete -F _{function} {name}
"""
# Names come as lines, and the shell quotes what is special in them: anybody may have chosen them.
_NAMES = "compopt -o filenames"
_FILES = f'mapfile -t COMPREPLY < <(compgen -f -- "$word"); {_NAMES}'
_NOTHING = "COMPREPLY=(); return"
# A cgroup of this machine, by its path from the mount point of the tree.
_CGROUPS = (
    'mapfile -t COMPREPLY < <(compgen -d -- "/sys/fs/cgroup/${word#/}"); '
    f'COMPREPLY=("${{COMPREPLY[@]#/sys/fs/cgroup}}"); {_NAMES} -o nospace'
)
_NO_BLANK = "[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace"


def main(arguments: list[str]) -> int:
    """Write a file for each command into a folder."""
    if len(arguments) != 1:
        sys.stderr.write("usage: completion.py FOLDER\n")
        return 2
    for name in COMMANDS:
        with open(os.path.join(arguments[0], name), "w", encoding="utf-8") as file:
            file.write(completion(name))
    return 0


def completion(name: str) -> str:
    """Write the completion of a command."""
    parsers = dict(_below(COMMANDS[name](), ""))
    return _HEAD.format(
        name=name,
        function=name.replace("-", "_"),
        steps="\n".join(_step(path) for path in parsers if path) or "            *) ;;",
        values="\n".join(line for path, each in parsers.items() for line in _values(path, each)),
        words="\n".join(_words(path, each) for path, each in parsers.items()),
    )


def words_of(name: str) -> set[str]:
    """Give every verb of a command and every long option that is no secret."""
    parsers = dict(_below(COMMANDS[name](), ""))
    verbs = {verb for path in parsers for verb in path.split()}
    return verbs | {
        option
        for parser in parsers.values()
        for action in parser._actions  # noqa: SLF001  # argparse has no other way to ask
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option.startswith("--")
    }


def _below(
    parser: argparse.ArgumentParser, path: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Give a parser and all of its verbs, each by the verbs that lead to it."""
    yield path, parser
    for verb, each in _verbs(parser).items():
        yield from _below(each, f"{path} {verb}")


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # see above
            return action.choices
    return {}


def _step(path: str) -> str:
    return f"            \"{path}\") path='{path}' ;;"


def _values(path: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """What may stand behind each option that takes a value."""
    for action in parser._actions:  # noqa: SLF001  # see above
        if action.option_strings and action.nargs != 0 and action.help != argparse.SUPPRESS:
            patterns = "|".join(f'"{path} {option}"' for option in action.option_strings)
            yield f"        {patterns}) {_value(action)} ;;"


def _value(action: argparse.Action) -> str:
    if action.choices:
        return f"{_reply(map(str, action.choices))}; return"
    return f"{_FILES}; return" if action.metavar in {"FILE", "FOLDER"} else _NOTHING


def _words(path: str, parser: argparse.ArgumentParser) -> str:
    """What may stand where a word begins: verbs, options, and arguments that are known."""
    options = [
        option
        for action in parser._actions  # noqa: SLF001  # see above
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
    ]
    said = [*_verbs(parser), *options]
    lines = [_reply(said)]
    for action in parser._actions:  # noqa: SLF001  # see above
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            lines = [_positional(action, options)]
            break
    return f"        '{path}') {lines[0]} ;;"


def _positional(action: argparse.Action, options: list[str]) -> str:
    if action.choices:
        return _reply([*map(str, action.choices), *options])
    match action.metavar:
        case "KEY":
            return _reply([*key_names(), *options])
        case "KEY=VALUE":
            return f"{_reply([*(f'{key}=' for key in key_names()), *options])}; {_NO_BLANK}"
        case "PATH" | "CGROUP":
            return _unless_option(_CGROUPS, options)
        case "FILE":
            return _unless_option(_FILES, options)
        case _:
            return _reply(options)


def _unless_option(reply: str, options: list[str]) -> str:
    return f"if [[ $word == -* ]]; then {_reply(options)}; else {reply}; fi"


def _reply(words: Iterator[str] | list[str]) -> str:
    return f"COMPREPLY=($(compgen -W '{' '.join(words)}' -- \"$word\"))"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
