"""Who calls, and what they may.

Over vsock the host may do all; a process of this guest that loops back looks like any other, so it
may do all where the settings allow it, and nothing else. Over a unix socket root may do all, as may
the user that memreact itself runs as, and members of one group may read. Over TCP, which leads to
the metrics alone and only where settings say so, any process of the guest may read.
"""

from __future__ import annotations

from kernelio.peercred import PeerCredentials
from kernelio.vsock import CID_HOST, CID_LOCAL
from memreact.value import Struct

__all__ = ["Peer", "peer_over_tcp", "peer_over_unix", "peer_over_vsock"]


class Peer(Struct, frozen=True):
    """Whoever is at the other end of a connection.

    Args:
        name: As the journal and the origins of settings show it.
        may_read: Call what only asks.
        may_write: Call what changes something.
        over_vsock: Whether AF_VSOCK is the way by which they call.
    """

    name: str
    may_read: bool
    may_write: bool
    over_vsock: bool = False

    @property
    def refused(self) -> bool:
        """May nothing at all."""
        return not (self.may_read or self.may_write)


def peer_over_unix(found: PeerCredentials, *, own_uid: int, readers: int | None) -> Peer:
    """Say what a process of this guest may.

    Args:
        found: As the kernel saw them.
        own_uid: That memreact runs as.
        readers: The group that may read; None where there is none.
    """
    all_of_it = found.uid in {0, own_uid}
    name = "root" if found.uid == 0 else f"uid {found.uid}"
    return Peer(name, may_read=all_of_it or readers in found.groups, may_write=all_of_it)


def peer_over_vsock(cid: int, *, own_cid: int | None, allow_guest: bool) -> Peer:
    """Say what comes from a CID.

    Args:
        cid: Of the peer.
        own_cid: This guest's; None where it is not known.
        allow_guest: Take calls of this guest's own processes too.
    """
    if cid == CID_HOST:
        return Peer("host", may_read=True, may_write=True, over_vsock=True)
    allowed = allow_guest and cid in {CID_LOCAL, own_cid}
    return Peer(f"cid {cid}", may_read=allowed, may_write=allowed, over_vsock=True)


def peer_over_tcp() -> Peer:
    """Say what comes from this guest itself, whoever it is."""
    return Peer("localhost", may_read=True, may_write=False)
