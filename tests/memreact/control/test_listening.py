"""Who is let in, how many, and what becomes of them when settings change."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kernelio.errors import Refused, Unsupported
from kernelio.peercred import PeerCredentials
from kernelio.vsock import CID_HOST, CID_LOCAL, as_unix
from memreact.control.audit import Audit
from memreact.control.door import CONNECTIONS_MAX, Door, Who
from memreact.control.listening import Listening, VsockCalls
from memreact.control.peer import Peer
from memreact.control.varlink import About, Service, VarlinkProtocol
from memreact.events import Instant
from memreact.telemetry.journal import Journal
from memreact_schemas.config import Control
from tests.memreact.control.wire import Client, settled

INFO = "org.varlink.service.GetInfo"
OWN_CID = 3


class Line(asyncio.Protocol):
    """Stands for Kata's protocol: answers each byte with the peer's name."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Say who they are."""
        assert self._transport is not None
        self._transport.write(self._peer.name.encode() * len(data))


class Machine:
    """A folder, and an AF_VSOCK made of unix sockets: a file for a port, the CID is what we say."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.made: list[Peer] = []
        self.cid = CID_HOST
        self.fails: dict[int, Exception] = {}
        self.opened: list[int] = []
        self.busy = False
        self.own_cid: int | Unsupported = OWN_CID
        journal = Journal(write=self.lines.append)
        self.audit = Audit(journal, lambda: Instant(0))
        calls = VsockCalls(self._open, self._accept, self._local_cid)
        self.listening = Listening(
            folder,
            varlink=self._varlink,
            ttrpc=Line,
            metrics=Line,
            audit=self.audit,
            journal=journal,
            calls=calls,
        )

    def _varlink(self, peer: Peer) -> asyncio.Protocol:
        self.made.append(peer)
        services: dict[str, Service] = {"org.varlink.service": About(())}
        return VarlinkProtocol(services, peer, self.audit.refused)

    def _open(self, port: int) -> socket.socket:
        if port in self.fails:
            raise self.fails[port]
        self.opened.append(port)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        name = f"{self.folder}/vsock-{port}"
        if self.busy and is_listened_on(name):
            listener.close()
            raise Unsupported(name, "it is taken")
        if os.path.exists(name):
            os.unlink(name)
        listener.bind(name)
        listener.listen(1000)
        return listener

    def _accept(self, listener: socket.socket) -> tuple[socket.socket, int, int]:
        stream, _ = listener.accept()
        return as_unix(stream), self.cid, 999

    def _local_cid(self) -> int:
        if isinstance(self.own_cid, Unsupported):
            raise self.own_cid
        return self.own_cid

    async def connect(self, name: str) -> Client:
        """Connect to a socket in the folder, and let the daemon notice."""
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(f"{self.folder}/{name}")
        except ConnectionRefusedError:
            stream.close()
            raise
        await noticed()
        return Client(stream)

    async def is_served(self, name: str) -> bool:
        """Whether somebody who connects there is answered."""
        try:
            client = await self.connect(name)
        except ConnectionRefusedError:
            return False
        with client.stream:
            return await answers(client)


def is_listened_on(name: str) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as stream:
        return stream.connect_ex(name) == 0


async def noticed() -> None:
    """Let the loop look at its files a few times."""
    for _ in range(4):
        await asyncio.sleep(0.001)


async def answers(client: Client) -> bool:
    """Whether a Varlink client is served."""
    await client.send(b'{"method":"%s"}\0' % INFO.encode())
    return await client.message() is not None


@asynccontextmanager
async def machine(
    folder: os.PathLike[str], control: Control | None = None
) -> AsyncIterator[Machine]:
    """Listen, and leave nothing open."""
    loop, wrong = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    here = Machine(os.fspath(folder))
    here.listening.settle(control or Control(group=""))
    yield here
    here.listening.close()
    await noticed()
    assert [len(door) for door in here.listening.doors] == [0] * 7
    assert wrong == []


@pytest.mark.asyncio
async def test_each_way_in_is_served(tmp_path: os.PathLike[str]) -> None:
    async with machine(tmp_path) as here:
        assert await here.is_served("io.memreact")
        assert await here.is_served("vsock-1050")
        for name, who in (
            ("agent.sock", b"root"),
            ("metrics.sock", b"root"),
            ("vsock-1051", b"host"),
            ("vsock-1052", b"host"),
        ):
            client = await here.connect(name)
            with client.stream:
                await client.send(b"x")
                assert await client.some() == who
        assert here.listening.problems == ()


@pytest.mark.asyncio
async def test_the_names_are_gone_when_nobody_listens_any_more(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        client = await here.connect("io.memreact")
    assert not {"io.memreact", "agent.sock", "metrics.sock"} & set(os.listdir(tmp_path))
    with client.stream:
        assert await client.message() is None


@pytest.mark.parametrize("cid", [CID_LOCAL, OWN_CID, 0, 7])
@pytest.mark.asyncio
async def test_nobody_but_the_host_is_even_listened_to(
    tmp_path: os.PathLike[str], cid: int
) -> None:
    async with machine(tmp_path) as here:
        here.cid = cid
        assert not await here.is_served("vsock-1050")
        assert here.made == []
    assert here.lines == [
        f'refused peer="cid {cid}" verb=connect because="permission denied: vsock: varlink"\n'
    ]


@pytest.mark.asyncio
async def test_the_guest_itself_is_let_in_where_settings_allow_it(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path, Control(allow_guest=True)) as here:
        for cid, served in ((CID_LOCAL, True), (OWN_CID, True), (7, False)):
            here.cid = cid
            assert await here.is_served("vsock-1050") == served


@pytest.mark.asyncio
async def test_who_may_no_longer_call_is_left_after_the_answer(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path, Control(allow_guest=True)) as here:
        host = await here.connect("vsock-1050")
        here.cid = CID_LOCAL
        guest = await here.connect("vsock-1050")
        with host.stream, guest.stream:
            assert await answers(guest)
            here.listening.settle(Control(allow_guest=False))
            assert await guest.message() is None
            assert await answers(host)
        assert here.opened == [1050, 1051, 1052]


@pytest.mark.asyncio
async def test_ports_move_and_those_who_are_connected_stay(tmp_path: os.PathLike[str]) -> None:
    async with machine(tmp_path) as here:
        client = await here.connect("vsock-1050")
        here.listening.settle(Control(varlink_port=2050))
        with client.stream:
            assert await answers(client)
        assert await here.is_served("vsock-2050")
        assert not await here.is_served("vsock-1050")
        assert here.opened == [1050, 1051, 1052, 2050]


@pytest.mark.asyncio
async def test_ports_change_places_though_each_is_taken_until_then(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        here.busy = True
        here.listening.settle(Control(varlink_port=1051, ttrpc_port=1050))
        assert here.listening.problems == ()
        assert await here.is_served("vsock-1051")
        here.listening.settle(Control(varlink_port=1050, ttrpc_port=1060))
        assert here.listening.problems == ()
        assert await here.is_served("vsock-1050")


@pytest.mark.asyncio
async def test_where_a_new_port_cannot_be_had_the_old_one_is_kept_and_it_is_told(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        here.fails[2050] = Unsupported("vsock port 2050", "it is taken")
        here.listening.settle(Control(varlink_port=2050))
        assert await here.is_served("vsock-1050")
        (problem,) = here.listening.problems
        assert "2050" in problem
        here.fails.clear()
        here.listening.settle(Control(varlink_port=2050))
        assert here.listening.problems == ()
        assert await here.is_served("vsock-2050")
        assert not await here.is_served("vsock-1050")


def _free_port() -> int:
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_reached(port: int) -> bool:
    with socket.socket(socket.AF_INET) as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.asyncio
async def test_localhost_is_listened_on_where_it_is_asked_for_and_may_only_read(
    tmp_path: os.PathLike[str],
) -> None:
    port, other = _free_port(), _free_port()
    async with machine(tmp_path) as here:
        assert not is_reached(port)
        here.listening.settle(Control(metrics_tcp_port=port))
        stream = socket.create_connection(("127.0.0.1", port))
        await noticed()
        client = Client(stream)
        with stream:
            await client.send(b"x")
            assert await client.some() == b"localhost"
            assert here.listening.doors[-1].name == "tcp: metrics"
            here.listening.settle(Control(metrics_tcp_port=other))
            assert (is_reached(port), is_reached(other)) == (False, True)
            await client.send(b"x")
            assert await client.some() == b"localhost"
            here.listening.settle(Control(metrics_tcp_port=0))
            assert await client.message() is None
        assert not is_reached(other)


@pytest.mark.asyncio
async def test_a_port_of_localhost_that_is_taken_is_told_and_tried_again(
    tmp_path: os.PathLike[str],
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    async with machine(tmp_path) as here:
        here.listening.settle(Control(metrics_tcp_port=port))
        assert here.listening.problems == (f"port {port} of 127.0.0.1: Address already in use",)
        taken.close()
        here.listening.settle(Control(metrics_tcp_port=port))
        assert not here.listening.problems
        assert is_reached(port)


@pytest.mark.asyncio
async def test_few_at_a_time_read_metrics(tmp_path: os.PathLike[str]) -> None:
    port = _free_port()
    async with machine(tmp_path, Control(group="", metrics_tcp_port=port)) as here:
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
        await noticed()
        assert len(here.listening.doors[-1]) == 8
        for stream in crowd:
            stream.close()


@pytest.mark.asyncio
async def test_vsock_can_be_left_out(tmp_path: os.PathLike[str]) -> None:
    async with machine(tmp_path) as here:
        client = await here.connect("vsock-1050")
        here.listening.settle(Control(vsock=False))
        with client.stream:
            assert await client.message() is None
        assert not await here.is_served("vsock-1050")
        assert await here.is_served("io.memreact")
        here.listening.settle(Control(vsock=True))
        assert await here.is_served("vsock-1050")


@pytest.mark.asyncio
async def test_vsock_that_is_off_and_on_again_in_one_breath_closes_nobody(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        client = await here.connect("vsock-1050")
        here.listening.settle(Control(vsock=False))
        here.listening.settle(Control(vsock=True))
        await noticed()
        with client.stream:
            assert await answers(client)


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_told_and_tried_again(tmp_path: os.PathLike[str]) -> None:
    async with machine(tmp_path, Control(vsock=False)) as here:
        here.fails[1050] = Refused("vsock port 1050", errno.EADDRINUSE, "Address already in use")
        here.listening.settle(Control())
        assert here.listening.problems == ("vsock port 1050: Address already in use",)
        assert "not_listening at=varlink_port" in here.lines[-1]
        assert await here.is_served("io.memreact")
        del here.fails[1050]
        here.listening.settle(Control())
        assert not here.listening.problems
        assert await here.is_served("vsock-1050")


@pytest.mark.asyncio
async def test_a_kernel_without_vsock_serves_unix_all_the_same(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path, Control(vsock=False)) as here:
        lacking = Unsupported("vsock port 1050", "this kernel has no AF_VSOCK")
        here.fails |= dict.fromkeys((1050, 1051, 1052), lacking)
        here.listening.settle(Control())
        assert len(here.listening.problems) == 3
        assert await here.is_served("io.memreact")


@pytest.mark.asyncio
async def test_a_group_that_appears_later_is_let_in_when_it_is_looked_up(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[int] = []
    monkeypatch.setattr(
        "kernelio.unix_socket.find_group", lambda _name: there[0] if there else None
    )
    name = f"{tmp_path}/io.memreact"
    async with machine(tmp_path, Control(group="memreact")) as here:
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
        there.append(os.getgid())
        here.listening.look_up_group()
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o660


@pytest.mark.asyncio
async def test_a_group_that_the_socket_cannot_be_given_to_keeps_nobody_else_out(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "chown", refuses)
    async with machine(tmp_path, Control(group="root")) as here:
        assert stat.S_IMODE(os.stat(f"{here.folder}/io.memreact").st_mode) == 0o600
        assert "io.memreact" in here.listening.problems[0]


@pytest.mark.asyncio
async def test_the_group_may_connect_when_there_is_one(tmp_path: os.PathLike[str]) -> None:
    name = f"{tmp_path}/io.memreact"
    async with machine(tmp_path, Control(group="root")) as here:
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o660
        here.listening.settle(Control(group="no-such-group"))
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
        here.listening.settle(Control(group=""))
        assert await here.is_served("io.memreact")


@pytest.mark.asyncio
async def test_a_name_that_another_one_listens_on_is_left_to_it(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as first:
        second = Machine(os.fspath(tmp_path))
        second.listening.settle(Control(vsock=False))
        assert len(second.listening.problems) == 3
        second.listening.close()
        assert await first.is_served("io.memreact")


@pytest.mark.asyncio
async def test_who_is_shown_out_before_the_loop_has_taken_them_is_dropped(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path, Control(allow_guest=True)) as here:
        here.cid = CID_LOCAL
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(f"{tmp_path}/vsock-1050")
        door = here.listening.doors[3]
        door._knock()
        here.listening.settle(Control(allow_guest=False))
        door.admit_again()
        with stream:
            assert await Client(stream).message() is None


@pytest.mark.asyncio
async def test_a_machine_that_does_not_know_its_own_cid_lets_no_guest_in_by_it(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path, Control(allow_guest=True)) as here:
        here.cid, here.own_cid = OWN_CID, Unsupported("/dev/vsock", "not there")
        assert not await here.is_served("vsock-1050")
        here.cid = CID_LOCAL
        assert await here.is_served("vsock-1050")


@pytest.mark.asyncio
async def test_what_came_half_closed_is_answered_through_the_door(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        client = await here.connect("io.memreact")
        await client.send(b'{"method":"%s"}\0' % INFO.encode())
        client.stream.shutdown(socket.SHUT_WR)
        with client.stream:
            assert await client.message() is not None
            assert await client.message() is None


@pytest.mark.asyncio
async def test_hundreds_of_silent_connections_keep_nobody_out(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path) as here:
        silent = [await here.connect("io.memreact") for _ in range(300)]
        door = here.listening.doors[0]
        assert len(door) == CONNECTIONS_MAX
        assert await here.is_served("io.memreact")
        assert door.turned_away >= 300 - CONNECTIONS_MAX
        assert await silent[0].message() is None  # the oldest went first
        assert await answers(silent[-1])
        for client in silent:
            client.stream.close()


@pytest.mark.asyncio
async def test_a_crowd_that_comes_at_once_is_let_in_by_and_by(
    tmp_path: os.PathLike[str],
) -> None:
    async with machine(tmp_path):
        crowd = []
        for _ in range(50):
            stream = socket.socket(socket.AF_UNIX)
            stream.connect(f"{tmp_path}/vsock-1050")
            crowd.append(Client(stream))
        assert [await answers(client) for client in crowd] == [True] * 50
        for client in crowd:
            client.stream.close()


class Busy(asyncio.Protocol):
    """A protocol that is always in the middle of something."""

    busy = True


READER = Peer("uid 1000", may_read=True, may_write=False)
ROOT = Peer("root", may_read=True, may_write=True)


class OneDoor:
    """A door for two, whose peers are what the test says."""

    def __init__(
        self, folder: os.PathLike[str], make: type[asyncio.Protocol], *, limit_of_one: int = 2
    ) -> None:
        self.path = f"{folder}/door"
        self.peer = ROOT
        self.lines: list[str] = []
        self.wrong: list[OSError] = []
        self.tries = 0
        journal = Journal(write=self.lines.append)
        self.door = Door(
            "door",
            accept=self._accept,
            admit=lambda _: self.peer,
            make=lambda _: make(),
            audit=Audit(journal, lambda: Instant(0)),
            journal=journal,
            limit=2,
            limit_of_one=limit_of_one,
        )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(self.path)
        listener.listen(100)
        self.door.listen(listener)

    def _accept(self, listener: socket.socket) -> tuple[socket.socket, Who]:
        self.tries += 1
        if self.wrong:
            raise self.wrong.pop()
        stream, _ = listener.accept()
        return stream, PeerCredentials(1, 0, (0,))

    async def connect(self, peer: Peer) -> Client:
        """Connect as somebody."""
        self.peer = peer
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(self.path)
        await noticed()
        return Client(stream)


async def _is_open(client: Client) -> bool:
    try:
        return bool(client.stream.recv(1))
    except BlockingIOError:
        return True


@pytest.mark.parametrize(
    ("inside", "newcomer", "let_in"),
    [
        (ROOT, ROOT, False),
        (READER, READER, False),
        (ROOT, READER, False),
        (READER, ROOT, True),
    ],
)
@pytest.mark.asyncio
async def test_readers_with_much_to_do_do_not_keep_root_out(
    tmp_path: os.PathLike[str], inside: Peer, newcomer: Peer, *, let_in: bool
) -> None:
    one = OneDoor(tmp_path, Busy)
    clients = [await one.connect(inside) for _ in range(2)]
    clients.append(await one.connect(newcomer))
    assert await _is_open(clients[2]) == let_in
    assert await _is_open(clients[0]) != let_in
    assert await _is_open(clients[1])
    one.door.close(at_once=True)
    await noticed()
    for client in clients:
        client.stream.close()


@pytest.mark.asyncio
async def test_a_silent_reader_goes_before_a_silent_writer(tmp_path: os.PathLike[str]) -> None:
    one = OneDoor(tmp_path, asyncio.Protocol)
    clients = [await one.connect(peer) for peer in (ROOT, READER, READER)]
    assert [await _is_open(client) for client in clients] == [True, False, True]
    one.door.close(at_once=True)
    await noticed()
    for client in clients:
        client.stream.close()


async def _open_ones(one: OneDoor, clients: list[Client]) -> list[bool]:
    found = [await _is_open(client) for client in clients]
    one.door.close(at_once=True)
    await noticed()
    for client in clients:
        client.stream.close()
    return found


@pytest.mark.asyncio
async def test_a_reader_takes_no_place_of_a_silent_writer(tmp_path: os.PathLike[str]) -> None:
    one = OneDoor(tmp_path, asyncio.Protocol)
    clients = [await one.connect(peer) for peer in (ROOT, ROOT, READER)]
    assert await _open_ones(one, clients) == [True, True, False]


@pytest.mark.parametrize(
    ("make", "found"),
    [(asyncio.Protocol, [False, True, True]), (Busy, [True, False, True])],
)
@pytest.mark.asyncio
async def test_one_reader_does_not_take_the_places_of_all_others(
    tmp_path: os.PathLike[str], make: type[asyncio.Protocol], found: list[bool]
) -> None:
    one = OneDoor(tmp_path, make, limit_of_one=1)
    other = Peer("uid 1001", may_read=True, may_write=False)
    clients = [await one.connect(peer) for peer in (READER, READER, other)]
    assert await _open_ones(one, clients) == found


@pytest.mark.asyncio
async def test_a_crowd_may_wait_in_front_of_the_door(tmp_path: os.PathLike[str]) -> None:
    async with machine(tmp_path):
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(200)]
        for stream in crowd:
            stream.settimeout(0)  # a full queue would refuse it
            stream.connect(f"{tmp_path}/io.memreact")
        for stream in crowd:
            stream.close()


@pytest.mark.asyncio
async def test_without_file_descriptors_nobody_is_accepted_and_nothing_spins(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memreact.control.door._REST_SECS", 0.05)
    one = OneDoor(tmp_path, asyncio.Protocol)
    one.wrong = [OSError(errno.EMFILE, "Too many open files")]
    client = await one.connect(ROOT)
    assert (one.tries, len(one.door)) == (1, 0)
    assert one.lines == ['not_accepted at=door because="Too many open files"\n']
    while not len(one.door):  # noqa: ASYNC110  # a timer of the loop
        await asyncio.sleep(0.005)
    assert one.tries <= 3
    one.door.close(at_once=True)
    await noticed()
    client.stream.close()


@pytest.mark.asyncio
async def test_a_door_that_closes_while_it_rests_stays_closed(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memreact.control.door._REST_SECS", 60)
    one = OneDoor(tmp_path, asyncio.Protocol)
    one.wrong = [OSError(errno.ENFILE, "")]
    client = await one.connect(ROOT)
    resting = one.door._resting
    assert resting is not None
    one.door.close(at_once=True)
    assert resting.cancelled()
    assert one.tries == 1
    client.stream.close()


@pytest.mark.asyncio
async def test_one_who_is_gone_again_does_not_keep_the_next_one_waiting(
    tmp_path: os.PathLike[str],
) -> None:
    one = OneDoor(tmp_path, asyncio.Protocol)
    one.wrong = [OSError(errno.ECONNABORTED, ""), Unsupported("SO_PEERCRED", "gone")]  # type: ignore[list-item]
    client = await one.connect(ROOT)
    assert len(one.door) == 1
    one.door.close(at_once=True)
    await noticed()
    client.stream.close()


@pytest.mark.asyncio
async def test_a_door_that_closes_before_the_loop_has_taken_a_connection_drops_it(
    tmp_path: os.PathLike[str],
) -> None:
    one = OneDoor(tmp_path, asyncio.Protocol)
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(one.path)
    one.door._knock()
    assert len(one.door) == 1
    one.door.close(at_once=True)
    client = Client(stream)
    assert await client.message() is None
    await settled()
    stream.close()
