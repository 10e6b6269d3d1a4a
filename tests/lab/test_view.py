from __future__ import annotations

from lab.view import disagreements
from memreact_tools.host.view import GuestView

MIB = 1 << 20


def guest(held_mib: int, **mib: int) -> GuestView:
    causes = {cause: size * MIB for cause, size in mib.items()}
    return GuestView(name="a", pid=1, held_bytes=held_mib * MIB, because_bytes=causes)


def test_a_guest_whose_memory_is_held_for_known_reasons_agrees() -> None:
    assert disagreements([guest(400, in_use=380, fragmented=19, reported_yet_held=1)]) == []


def test_more_than_a_twentieth_for_no_known_reason_is_told() -> None:
    (said,) = disagreements([guest(400, in_use=379, reported_yet_held=21)])
    assert said == "a: 21 of 400 MiB are held for no known reason"


def test_causes_that_do_not_make_up_what_is_held_are_told() -> None:
    (said,) = disagreements([guest(400, in_use=300)])
    assert "do not make up" in said
