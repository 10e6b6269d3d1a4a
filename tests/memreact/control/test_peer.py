"""Who may do what."""

from __future__ import annotations

import pytest

from kernelio.peercred import PeerCredentials
from memreact.control.peer import Peer, peer_over_tcp, peer_over_unix, peer_over_vsock

READERS = 77


@pytest.mark.parametrize(
    ("uid", "groups", "may"),
    [
        (0, (0,), "all"),
        (500, (500,), "all"),  # memreact's own user
        (1000, (1000, 4, READERS), "read"),
        (1000, (READERS,), "read"),
        (1000, (1000, 0), "nothing"),
        (65534, (65534,), "nothing"),
    ],
)
def test_what_a_process_of_the_guest_may(uid: int, groups: tuple[int, ...], may: str) -> None:
    peer = peer_over_unix(PeerCredentials(9, uid, groups), own_uid=500, readers=READERS)
    assert (peer.may_read, peer.may_write) == (may != "nothing", may == "all")
    assert peer.refused == (may == "nothing")
    assert peer.name == ("root" if uid == 0 else f"uid {uid}")


def test_without_a_group_only_root_may_anything() -> None:
    stranger = PeerCredentials(9, 1000, (1000, 0, READERS))
    assert peer_over_unix(stranger, own_uid=0, readers=None).refused


def test_the_host_may_all() -> None:
    assert peer_over_vsock(2, own_cid=3, allow_guest=False) == Peer(
        "host", may_read=True, may_write=True, over_vsock=True
    )


@pytest.mark.parametrize("cid", [1, 3])
def test_the_guest_itself_may_only_where_it_is_allowed(cid: int) -> None:
    assert peer_over_vsock(cid, own_cid=3, allow_guest=False).refused
    assert peer_over_vsock(cid, own_cid=3, allow_guest=True).may_write


@pytest.mark.parametrize("cid", [0, 4, 2**32 - 1])
@pytest.mark.parametrize("own_cid", [3, None])
def test_another_guest_may_nothing(cid: int, own_cid: int | None) -> None:
    assert peer_over_vsock(cid, own_cid=own_cid, allow_guest=True).refused


def test_what_comes_over_tcp_may_read_and_no_more() -> None:
    peer = peer_over_tcp()
    assert (peer.may_read, peer.may_write) == (True, False)
