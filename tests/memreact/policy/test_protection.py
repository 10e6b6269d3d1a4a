"""How much of a memcg may go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Guard
from memreact.policy.protection import floor_bytes, reclaimable_bytes
from memreact.value import replace
from tests.memreact.policy.readings import inspection
from tests.memreact.policy.simulated_guest import BASE

MB = 1 << 20
PAGE = 4096
OVERSHOOT = 64 * PAGE


def test_without_protection_nothing_sets_a_bound() -> None:
    saw = inspection(guards=(Guard("/a/b", 10 * MB, 0), Guard("/a", 20 * MB, 0)))
    assert reclaimable_bytes(saw, BASE, PAGE) == (None, None)


def test_the_root_has_no_guards() -> None:
    assert reclaimable_bytes(inspection("/"), BASE, PAGE) == (None, None)


def test_what_is_above_the_protection_may_go_less_one_batch() -> None:
    saw = inspection(guards=(Guard("/a", 100 * MB, 40 * MB),))
    spare, guard = reclaimable_bytes(saw, BASE, PAGE)
    assert spare == 60 * MB - OVERSHOOT
    assert guard == Guard("/a", 100 * MB, 40 * MB)


def test_the_promise_to_a_parent_binds_its_children() -> None:
    saw = inspection(guards=(Guard("/a/b", 100 * MB, 0), Guard("/a", 130 * MB, 120 * MB)))
    spare, guard = reclaimable_bytes(saw, BASE, PAGE)
    assert spare == 10 * MB - OVERSHOOT
    assert guard is not None
    assert guard.path == "/a"


def test_a_large_folio_ends_the_batch_that_it_is_in() -> None:
    saw = inspection(guards=(Guard("/a", 200 * MB, 40 * MB),), folio_bytes=2 * MB)
    assert reclaimable_bytes(saw, BASE, PAGE)[0] == 160 * MB - 2 * MB - 63 * PAGE


def test_below_the_protection_nothing_may_go() -> None:
    saw = inspection(guards=(Guard("/a", 30 * MB, 40 * MB),))
    assert reclaimable_bytes(saw, BASE, PAGE)[0] == 0


def test_a_floor_counts_for_the_memcg_alone() -> None:
    saw = inspection(guards=(Guard("/a/b", 100 * MB, 0), Guard("/a", 101 * MB, 0)))
    assert reclaimable_bytes(saw, replace(BASE, floor_bytes=99 * MB), PAGE)[0] == MB - OVERSHOOT


def test_a_floor_is_the_larger_of_bytes_and_share() -> None:
    rules = replace(BASE, floor_bytes=10 * MB, floor_ppm=250_000)
    assert floor_bytes(rules, 100 * MB) == 25 * MB
    assert floor_bytes(rules, 20 * MB) == 10 * MB
    assert floor_bytes(rules, None) == 10 * MB


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=4),
    st.sampled_from([4096, 65536, 2 * MB]),
)
def test_taking_all_that_may_go_keeps_every_promise(
    guards: list[tuple[int, int]], folio_bytes: int
) -> None:
    saw = inspection(
        guards=tuple(Guard(f"/{n}", *both) for n, both in enumerate(guards)),
        folio_bytes=folio_bytes,
    )
    spare, _ = reclaimable_bytes(saw, BASE, PAGE)
    if spare:
        for current, kept in guards:
            assert not kept or current - spare - 63 * PAGE - folio_bytes >= kept


def test_huge_anonymous_folios_keep_nothing_back_from_a_write_to_files_alone() -> None:
    saw = inspection(guards=(Guard("/a", 200 * MB, 100 * MB),), anon_folio_bytes=2 * MB)
    assert reclaimable_bytes(saw, BASE, PAGE)[0] == 98 * MB - 63 * PAGE
    assert reclaimable_bytes(saw, BASE, PAGE, anon=False)[0] == 100 * MB - OVERSHOOT
