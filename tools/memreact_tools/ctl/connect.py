"""The verb `connect`: the command lines of Kata's agent-ctl, as they stand."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence

import msgspec

from memreact_schemas.agent import KeyValue
from memreact_schemas.protobuf import ProtobufError
from memreact_tools.address import Address, connect, parse_address
from memreact_tools.ctl.ask import code_of, said, why
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.guests import Round, Trouble, addresses_in
from memreact_tools.ctl.kata_commands import (
    METHODS,
    Call,
    Command,
    parse_command,
    perform,
    steps,
)
from memreact_tools.ctl.keys import Misused
from memreact_tools.ctl.ttrpc_client import BrokenConnection, CallFailed, Client
from memreact_tools.plain import plain, plain_json

__all__ = ["run"]

_DONE, _COULD_NOT = 0, 1
_PATIENCE_S = 60.0  # for a call without a time limit: nothing takes so long
_AUTO_VALUES = (KeyValue(key="agent-ctl-cfg", value="auto-values"),)


def run(asked: argparse.Namespace) -> int:
    """Do every command at every address, in order; 0 if all was done, else 1.

    Raises:
        Misused: A command is wrong; nothing was sent.
        AddressError: So is an address.
    """
    port = asked.hybrid_vsock_port if asked.hybrid_vsock is not None else None
    addresses = _addresses(asked, port)
    commands = [parse_command(each) for each in asked.cmd]
    timeout_s = None if asked.timeout is None else parse_duration(asked.timeout)
    if not commands and asked.interactive is not None:
        return _interactive(asked, addresses, timeout_s)
    if not commands:
        raise Misused("no command: --cmd 'MemAgentMemcgSet json://{...}', or --cmd list")
    many = len(addresses) > 1 or asked.address_file is not None

    def one(address: Address) -> tuple[bytes, str]:
        lines: list[str] = []
        say = lines.append if many else _print
        with contextlib.closing(_Guest(asked, address, timeout_s, say)) as guest:
            guest.perform(commands)
        return f"[{','.join(lines)}]".encode() if asked.json else b"", "\n".join(lines)

    return _tell(asked, Round(addresses, one, parallel=asked.parallel), many=many)


def _addresses(asked: argparse.Namespace, port: int | None) -> list[Address]:
    if asked.address:
        raise Misused("connect takes --server-address, or --address-file, not --address")
    if asked.hybrid_port is not None:
        raise Misused("connect takes --hybrid-vsock and --hybrid-vsock-port, not --hybrid-port")
    found = [parse_address(each, hybrid_port=port) for each in asked.server_address]
    if asked.address_file is not None:
        found += addresses_in(asked.address_file, hybrid_port=port)
    if not found:
        raise Misused("no address: --server-address URI, or --address-file FILE")
    return list(dict.fromkeys(found))


def _print(line: str) -> None:
    print(line, flush=True)


def _tell(asked: argparse.Namespace, guests: Round, *, many: bool) -> int:
    code = _DONE
    try:
        for outcome in guests:
            code = _COULD_NOT if outcome.failed else code
            name = plain(str(outcome.address))
            if many and asked.json:
                print(said(outcome), flush=True)
            elif outcome.failed:
                print(f"memreact-ctl: {name}: {outcome.text}", file=sys.stderr)
            elif many:
                lines = [f"{name}:", *(f"  {line}" for line in outcome.text.splitlines())]
                print("\n".join(lines), flush=True)
    except KeyboardInterrupt:
        left = len(guests.stop())
        count = len(guests.addresses) - left
        print(f"memreact-ctl: interrupted: {count} asked, {left} not asked", file=sys.stderr)
        code = _COULD_NOT
    return code


def _interactive(
    asked: argparse.Namespace, addresses: Sequence[Address], timeout_s: float | None
) -> int:
    """Do what is typed, line by line, until it ends or says quit."""
    if len(addresses) != 1:
        raise Misused("--interactive takes one --server-address")
    code = _DONE
    with contextlib.closing(_Guest(asked, addresses[0], timeout_s, _print)) as guest:
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            try:
                guest.perform([parse_command(line)] if line.strip() else [])
            except (Misused, Trouble) as error:
                code = _COULD_NOT
                print(f"memreact-ctl: {plain(str(error))}", file=sys.stderr)
    return code


def _code_of(error: Exception) -> str:
    return error.name if isinstance(error, CallFailed) else code_of(error)


class _Guest:
    """An agent's services at one address, each with a connection of its own once it is called."""

    def __init__(
        self,
        asked: argparse.Namespace,
        address: Address,
        timeout_s: float | None,
        tell: Callable[[str], None],
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = _AUTO_VALUES if asked.no_auto_values is None else ()
        self._goes_on = asked.ignore_errors is not None
        self._for_programs = asked.json
        self._clients: dict[str, Client] = {}
        self._streams: list[socket.socket] = []
        self._tell = tell

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    def perform(self, commands: Sequence[Command]) -> None:
        """Do commands in order, until one fails unless errors are to be ignored.

        Raises:
            Trouble: One failed.
        """
        for step in steps(iter(commands)):
            try:
                perform(step, self._call, self._say)
            except BrokenPipeError:  # nobody reads what we say
                raise
            except (CallFailed, BrokenConnection, ProtobufError, OSError) as error:
                name = f"{step.name}: " if isinstance(step, Call) else ""
                text = plain(f"{name}{why(error)}")
                if not self._goes_on:
                    raise Trouble(text, code=_code_of(error)) from error
                self._say({"error": text}, f"ignored: {text}")

    def _call(self, name: str, payload: bytes) -> bytes:
        service = METHODS[name].service
        if service not in self._clients:
            self._clients[service] = self._connect()
        return self._clients[service].call(service, name, payload)

    def _connect(self) -> Client:
        patience_s = _PATIENCE_S if self._timeout_s is None else self._timeout_s
        stream = connect(self._address, timeout_s=patience_s)
        self._streams.append(stream)
        stream.settimeout(patience_s)  # of each call
        nanoseconds = 0 if self._timeout_s is None else int(self._timeout_s * 1e9)
        return Client(stream, timeout_ns=nanoseconds, metadata=self._metadata)

    def _say(self, said: dict[str, object], text: str) -> None:
        if self._for_programs:
            self._tell(plain_json(msgspec.json.encode(said).decode()))
            return
        for line in text.splitlines():
            self._tell(plain(line))
