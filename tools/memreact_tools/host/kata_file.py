"""Kata's configuration: which options are on, which are missing, and how one is set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tomli

from memreact_tools.host.kata_options import MEM_AGENT, OPTIONS, Option, Value, near, toml_value
from memreact_tools.host.toml_text import (
    CannotEdit,
    NotToml,
    Path,
    Statement,
    commented_out,
    document_of,
    edit_for,
    scan,
    value_at,
)

__all__ = ["KataFile", "Standing", "Unreadable", "findings", "set_option", "standings"]

# A key of the hypervisor's that is so like one of ours that it is hardly one that we do not know.
_HARDLY_ANOTHER = 0.88


class Unreadable(Exception):  # noqa: N818  # reads as what happened
    """The file is no TOML, or not one of Kata's."""


@dataclass(frozen=True, slots=True)
class KataFile:
    """A file of Kata's.

    Args:
        text: What is in it.
        document: The same, parsed.
        form: The runtime's, with tables; or the one that an agent reads in the guest, without.
        hypervisor: Name of the hypervisor's table that is spoken of; "" where there is none.
    """

    text: str
    document: dict[str, Any]
    form: Literal["runtime", "agent"]
    hypervisor: str

    @classmethod
    def parse(cls, text: str, *, hypervisor: str | None = None) -> KataFile:
        """Read a file.

        Args:
            text: What is in it.
            hypervisor: Which [hypervisor.NAME] is meant, where there are several.

        Raises:
            Unreadable: It is no TOML, or it has several hypervisors and none was named, or others
                than the one that was.
        """
        try:
            document = document_of(text)
        except NotToml as error:
            raise Unreadable(str(error)) from error
        bare = any(not isinstance(value, (dict, list)) for value in document.values())
        form: Literal["runtime", "agent"] = "agent" if bare else "runtime"
        return cls(text, document, form, _hypervisor_of(document, hypervisor))

    def place(self, option: Option) -> Path:
        """Return the path of an option in this file.

        Raises:
            CannotEdit: This file has no place for it.
        """
        if self.form == "agent":
            if option.owner == "hypervisor":
                raise CannotEdit(f"{option.name} belongs to the runtime's file, not to an agent's")
            return (option.agent_file_name,)
        if option.owner == "hypervisor":
            if not self.hypervisor:
                raise CannotEdit(
                    "there is no [hypervisor.NAME] table: say which, --hypervisor NAME"
                )
            return ("hypervisor", self.hypervisor, option.name)
        return (*MEM_AGENT, self._own_name(option))

    def _own_name(self, option: Option) -> str:
        """Return how this file calls an option of the mem-agent: enable is mem_agent_enable."""
        table = value_at(self.document, MEM_AGENT)
        said = table if isinstance(table, dict) else {}
        short = option.name.removeprefix("mem_agent_")
        return short if short in said and option.name not in said else option.name


def _hypervisor_of(document: dict[str, Any], named: str | None) -> str:
    tables = document.get("hypervisor", {})
    names = [name for name, table in tables.items() if isinstance(table, dict)]
    if named is not None and names and named not in names:
        raise Unreadable(f"there is no [hypervisor.{named}], but {', '.join(names)}")
    if named is not None:
        return named
    if len(names) > 1:
        raise Unreadable(f"several hypervisors, {', '.join(names)}: say which, --hypervisor NAME")
    return names[0] if names else ""


class Standing(NamedTuple):
    """How an option stands in a file: said, commented out or absent.

    Args:
        option: Which.
        table: Dotted name of its table; "" for the document itself.
        how: Which of the three.
        value: What is said, or stands behind the `#`; None where it is absent.
    """

    option: Option
    table: str
    how: Literal["set", "commented", "absent"]
    value: object

    @property
    def in_force(self) -> object:
        """The value that Kata takes."""
        return self.value if self.how == "set" else self.option.default


def standings(file: KataFile) -> list[Standing]:
    """Say how each option stands that this form of a file can have."""
    comments = _comments(file.text)
    found = []
    for option in OPTIONS:
        if option.owner == "hypervisor" and (file.form == "agent" or not file.hypervisor):
            continue
        path = file.place(option)
        found.append(_standing(file, option, path, comments))
    return found


def _standing(file: KataFile, option: Option, path: Path, comments: dict[Path, Value]) -> Standing:
    table = ".".join(path[:-1])
    value = value_at(file.document, path)
    if value is not None:
        return Standing(option, table, "set", value)
    if path in comments:
        return Standing(option, table, "commented", comments[path])
    return Standing(option, table, "absent", None)


def _comments(text: str) -> dict[Path, Value]:
    found: dict[Path, Value] = {}
    for statement in scan(text):
        if statement.kind == "comment" and statement.table is not None:
            pair = commented_out(text, statement)
            if pair is not None:
                found[(*statement.table, pair[0])] = pair[1]
    return found


def set_option(file: KataFile, option: Option, value: str) -> KataFile:
    """Return the file with an option set, everything else kept byte for byte.

    Args:
        file: As it is.
        option: Which.
        value: As it was given, not yet TOML.

    Raises:
        BadValue: The option does not take it.
        CannotEdit: The file has the option's place in a form that is not edited here.
    """
    path = file.place(option)
    wanted = toml_value(option, value)
    here = value_at(file.document, path)
    said = tomli.loads(f"v = {wanted}")["v"]
    if here == said and type(here) is type(said):
        return file
    edit = edit_for(file.text, path[:-1], path[-1], wanted)
    return KataFile.parse(edit.apply(file.text), hypervisor=file.hypervisor or None)


def findings(file: KataFile) -> list[str]:
    """Say what keeps the guest's memory from reaching the host, and what is misspelt."""
    now = {each.option.name: each for each in standings(file)}
    return [*_missing(file, now), *_wrong_values(now), *_misspelt(file)]


def _missing(file: KataFile, now: dict[str, Standing]) -> Iterator[str]:
    if now["mem_agent_enable"].in_force is not True:
        yield "mem_agent_enable is not true: Kata's agent does not look for cold memory"
    for part in ("memcg", "compact"):
        if now[f"{part}_disable"].in_force is True:
            yield f"{part}_disable is true: that part does nothing"
    if file.form == "agent":
        return
    if not file.hypervisor:
        yield "there is no [hypervisor.NAME] table, where reclaim_guest_freed_memory belongs"
        return
    if now["reclaim_guest_freed_memory"].in_force is not True:
        yield "reclaim_guest_freed_memory is not true: what the guest frees stays with the guest"
    yield from _swap(file, now)


def _swap(file: KataFile, now: dict[str, Standing]) -> Iterator[str]:
    swaps = now["enable_guest_swap"].in_force is True
    if now["memcg_swap"].in_force is True and not swaps:
        yield "memcg_swap is true, but enable_guest_swap is not: there may be no swap to go to"
    if swaps and file.hypervisor == "qemu":
        yield "enable_guest_swap is true, which Kata refuses for QEMU"


def _wrong_values(now: dict[str, Standing]) -> Iterator[str]:
    for each in now.values():
        if each.how == "set" and not _takes(each.option, each.value):
            yield f"{each.option.name} = {each.value!r} is no value that it takes"


def _takes(option: Option, value: object) -> bool:
    if type(value) is not option.kind:
        return False
    return not isinstance(value, int) or option.kind is bool or option.low <= value <= option.high


def _misspelt(file: KataFile) -> Iterator[str]:
    names = {option.name for option in OPTIONS} | {"enable"}
    names |= {option.agent_file_name for option in OPTIONS}
    for statement in scan(file.text):
        if statement.kind == "pair" and statement.table is not None:
            yield from _judge(file, statement, names)


def _judge(file: KataFile, pair: Statement, names: set[str]) -> Iterator[str]:
    """Say what is wrong with one key that is not where, or what, it should be."""
    path = (pair.table or ()) + pair.key
    name, line = path[-1], file.text.count("\n", 0, pair.start) + 1
    right = {file.place(option) for option in OPTIONS if _has_place(file, option)}
    if path in right:
        return
    if name in names and name != "enable" and not _other_hypervisor(path):
        yield f"line {line}: {name} has no effect in [{'.'.join(path[:-1])}]"
    elif path[:-1] == MEM_AGENT:
        meant = near(name)
        hint = f": did you mean {meant}?" if meant else ""
        yield f"line {line}: Kata refuses {name}, which it does not know{hint}"
    elif (meant := near(name, cutoff=_HARDLY_ANOTHER)) and not _other_hypervisor(path):
        yield f"line {line}: Kata ignores {name}: did you mean {meant}?"


def _has_place(file: KataFile, option: Option) -> bool:
    return option.owner == "mem_agent" or (file.form == "runtime" and bool(file.hypervisor))


def _other_hypervisor(path: Path) -> bool:
    return path[0] == "hypervisor" and path[-1] in {
        option.name for option in OPTIONS if option.owner == "hypervisor"
    }
