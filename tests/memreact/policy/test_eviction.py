"""The size of the next write, and when an eviction is over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from memreact.actions import Because, Evict, Reclaim
from memreact.events import AnonAlone, BatchEnded, CapabilitiesRead, Guard, Inspection, Instant
from memreact.policy.eviction import accounted, next_write, opened
from memreact.policy.plan import RECLAIM_SEQ
from memreact.policy.state import Candidate, Eviction
from memreact.rules import MemcgRules
from memreact.value import replace
from tests.memreact.policy.readings import inspection
from tests.memreact.policy.simulated_guest import BASE

PAGE = 4096
MB = 1 << 20
NOW = Instant(5_000_000)
GUEST = CapabilitiesRead(PAGE, "mglru", privileged_psi=True, own_path="/own", boot_phase=0.0)
OLD = msgspec.structs.replace(GUEST, evicts="memory.reclaim", reclaim_takes_swappiness=False)
SWAP = replace(BASE, swap=True)
ROOM: dict[str, Any] = {"swap_free_bytes": 1 << 40}


def eviction(
    anon: int = 0,
    file: int = 0,
    saw: Inspection | None = None,
    **keys: Any,  # noqa: ANN401  # any field
) -> Eviction:
    candidate = Candidate("/shop", 9, 70_000, 0, 4, anon, file)
    made = opened(candidate, candidate.pages, saw or inspection(), NOW)
    return replace(made, **keys)


def can(anon_alone: AnonAlone) -> CapabilitiesRead:
    return msgspec.structs.replace(GUEST, anon_alone=anon_alone)


def write(made: Eviction, rules: MemcgRules = BASE, guest: CapabilitiesRead = GUEST) -> Evict:
    found = next_write(made, rules, guest, NOW)
    assert isinstance(found, Evict)
    return found


def why(
    made: Eviction,
    rules: MemcgRules = BASE,
    now: Instant = NOW,
    guest: CapabilitiesRead = GUEST,
) -> str:
    found = next_write(made, rules, guest, now)
    assert isinstance(found, Because)
    return found.code


def ended(made: Eviction, wrote: Evict, got: int, **saw: Any) -> Eviction:  # noqa: ANN401
    """The eviction after a write that ran to its own end."""
    assert made.last is not None
    total = made.last.evicted_total_pages + got
    after = inspection(**{"evicted_total_pages": total, **ROOM, **saw})
    event = BatchEnded("/shop", 0, wrote.pages, "done", after)
    return accounted(made, event, wrote, PAGE)


def test_a_write_names_the_memcg_its_generation_and_at_most_64_mib() -> None:
    assert write(eviction(file=1_000_000)) == Evict("/shop", 9, 70_000, 0, 4, 0, 16_384)


def test_pages_of_64_kib_make_no_larger_writes() -> None:
    guest = msgspec.structs.replace(GUEST, page_bytes=65_536)
    assert write(eviction(file=1_000_000), guest=guest).pages == 1024


def test_a_small_eviction_asks_for_what_there_is() -> None:
    assert write(eviction(file=100)).pages == 100


def test_a_write_near_the_protection_is_smaller() -> None:
    saw = inspection(guards=(Guard("/shop", 100 * MB, 90 * MB),))
    assert write(eviction(file=100_000, saw=saw)).pages == (10 * MB - 64 * PAGE) // PAGE


def test_at_the_protection_it_ends() -> None:
    saw = inspection(guards=(Guard("/shop", 100 * MB, 99 * MB + 800 * 1024),))
    assert why(eviction(file=100_000, saw=saw)) == "protected"


def test_much_more_of_one_kind_goes_alone_first() -> None:
    saw = inspection(**ROOM)
    assert write(eviction(100, 100_000, saw), SWAP).swappiness == 0
    assert write(eviction(100_000, 100, saw), SWAP).swappiness == 200


def test_a_mix_is_no_larger_than_the_smaller_kind() -> None:
    wrote = write(eviction(3_000, 9_000, inspection(**ROOM)), SWAP)
    assert (wrote.swappiness, wrote.pages) == (50, 3_000)


def test_the_share_of_a_mix_is_capped_by_the_rules() -> None:
    made = eviction(1_000, 1_000, inspection(**ROOM))
    assert write(made, replace(SWAP, swappiness_max=200)).swappiness == 100
    assert write(made, replace(SWAP, swappiness_max=10)).swappiness == 10


def test_no_more_is_swapped_than_fits() -> None:
    saw = inspection(swap_free_bytes=(256 + 500) * PAGE)
    assert write(eviction(100_000, 0, saw), SWAP).pages == 500


def test_what_the_rules_do_not_let_go_is_named() -> None:
    made = eviction(100_000, 0, inspection(**ROOM))
    assert why(made, BASE) == "anon_stays"


def test_anon_that_grows_while_file_shrinks_counts_as_nothing_lost() -> None:
    before = inspection(anon_bytes=10 * MB, file_bytes=10 * MB, **ROOM)
    made = eviction(2_000, 2_000, before)
    wrote = write(made, SWAP)
    after = ended(made, wrote, 2_000, anon_bytes=900 * MB, file_bytes=2 * MB)
    assert (after.anon_left, after.file_left) == (2_000, 0)


def test_shared_memory_that_went_counts_as_what_needs_swap() -> None:
    """memory.stat calls it file pages; 1,200 of these 2,000 were on the anonymous lists."""
    shared = 1_200 * PAGE
    before = inspection(file_bytes=100 * MB, shmem_bytes=2 * shared, **ROOM)
    made = eviction(2_000, 2_000, before)
    after = ended(
        made, write(made, SWAP), 2_000, file_bytes=100 * MB - 2_000 * PAGE, shmem_bytes=shared
    )
    assert (after.anon_left, after.file_left) == (800, 1_200)


def test_what_others_evict_below_the_memcg_is_not_counted_as_ours() -> None:
    made = eviction(0, 40_000)
    after = ended(made, write(made), 1_000_000)
    assert (after.evicted_pages, after.file_left) == (16_384 + 64, 40_000 - 16_384 - 64)


def test_what_went_between_two_writes_is_not_counted_as_ours() -> None:
    made = eviction(0, 40_000)
    looked = replace(made, last=inspection(evicted_total_pages=30_000))
    assert ended(looked, write(looked), 16_384).evicted_pages == 16_384


def test_a_counter_that_began_anew_counts_as_nothing_evicted() -> None:
    made = eviction(0, 2_000, inspection(evicted_total_pages=10**6))
    after = ended(made, write(made), -(10**6))
    assert after.evicted_pages == 0


def test_a_write_that_brings_all_it_was_asked_for_is_followed_by_another() -> None:
    made = eviction(file=40_000)
    after = ended(made, write(made), 16_384)
    assert (after.file_left, after.stuck_pages) == (23_616, 0)
    assert write(after).pages == 16_384


def test_a_counter_that_lags_a_little_ends_nothing() -> None:
    made = eviction(file=40_000)
    after = ended(made, write(made), 16_384 - 128 * 32)
    assert after.stuck_pages == 0


@pytest.mark.parametrize(
    ("saw", "code"),
    [
        ({"dirty_bytes": 200 * MB}, "no_progress_dirty"),
        ({"unevictable_bytes": 200 * MB}, "no_progress_pinned"),
        ({}, "no_progress_in_use"),
    ],
)
def test_what_does_not_go_is_told_with_its_likely_reason(saw: dict[str, Any], code: str) -> None:
    made = eviction(file=40_000)
    assert why(ended(made, write(made), 0, **saw)) == code


def test_a_rest_that_is_small_is_a_normal_end() -> None:
    made = eviction(file=20_000)
    first = ended(made, write(made), 16_384)
    second = ended(first, write(first), 2_000)
    assert why(ended(second, write(second), 0)) == "cold_gone"
    assert why(ended(first, write(first), 100)) == "no_progress_in_use"


def test_when_file_pages_do_not_go_the_anonymous_ones_still_do() -> None:
    made = eviction(3_000, 3_000, inspection(**ROOM))
    after = ended(made, write(made, SWAP), 0)
    assert (after.file_left, after.anon_left) == (0, 3_000)
    assert write(after, SWAP).swappiness == 200


def test_a_write_that_was_broken_off_says_nothing_about_the_rest() -> None:
    made = eviction(file=40_000)
    wrote = write(made)
    event = BatchEnded("/shop", 0, wrote.pages, "broken_off", inspection(evicted_total_pages=64))
    after = accounted(made, event, wrote, PAGE)
    assert (after.stuck_pages, after.file_left) == (0, 39_936)


def test_what_refaults_allow_is_the_end_too() -> None:
    made = eviction(file=40_000, allowed_pages=1_000)
    wrote = write(made)
    assert wrote.pages == 1_000
    assert why(ended(made, wrote, 1_024)) == "refaults"


@pytest.mark.parametrize(
    ("saw", "code"),
    [
        ({"frozen": True}, "frozen"),
        ({"throttled_total": 1}, "limit_hit"),
        ({"oom_total": 1, "throttled_total": 1}, "oom"),
    ],
)
def test_what_happened_since_the_first_reading_ends_it(saw: dict[str, Any], code: str) -> None:
    made = replace(eviction(file=40_000), last=inspection(**saw))
    assert why(made) == code


def test_after_a_minute_it_is_somebody_elses_turn() -> None:
    made = eviction(file=40_000)
    assert isinstance(next_write(made, BASE, GUEST, Instant(NOW + 60_000_000)), Evict)
    assert why(made, now=Instant(NOW + 60_000_001)) == "out_of_time"


def test_an_eviction_that_was_never_read_writes_nothing() -> None:
    assert why(Eviction(Candidate("/a", 1, 1, 0, 1, 0, 100))) == "vanished"


# Kernels that end a write by the older of both kinds


@pytest.mark.parametrize(("anon", "file"), [(3_000, 9_000), (9_000, 3_000), (100_000, 100)])
def test_where_anon_can_go_alone_nothing_is_mixed(anon: int, file: int) -> None:
    made = eviction(anon, file, inspection(**ROOM))
    first = write(made, SWAP, can("max"))
    assert first.swappiness == (201 if anon > file else 0)
    assert first.pages == max(anon, file) if max(anon, file) < 16_384 else 16_384


def test_where_anon_can_go_alone_file_pages_that_stay_do_not_matter() -> None:
    made = eviction(3_000, 9_000, inspection(**ROOM))
    after = ended(made, write(made, SWAP, can("max")), 0)
    assert write(after, SWAP, can("max")) == replace_write(write(made), swappiness=201, pages=3_000)


def replace_write(wrote: Evict, **fields: int) -> Evict:
    return msgspec.structs.replace(wrote, **fields)


def test_where_it_cannot_the_last_old_file_page_goes_first() -> None:
    made = eviction(100_000, 10, inspection(**ROOM))
    first = write(made, SWAP, can("after_file"))
    assert (first.swappiness, first.pages) == (0, 10)
    after = ended(made, first, 64)
    assert write(after, SWAP, can("after_file")).swappiness == 200


def test_where_it_cannot_anon_stays_beside_file_pages_that_do() -> None:
    made = eviction(100_000, 500, inspection(**ROOM))
    after = ended(made, write(made, SWAP, can("after_file")), 0)
    found = next_write(after, SWAP, can("after_file"), NOW)
    assert isinstance(found, Because)
    assert (found.code, found.saw["anon"]) == ("anon_stays", "file_pages_stay")


def test_where_it_cannot_old_file_pages_of_another_reason_are_told_as_such() -> None:
    made = eviction(10_000, 5_000, inspection(**ROOM))
    after = ended(made, write(made, SWAP, can("after_file")), 0, dirty_bytes=100 * MB)
    assert why(after, SWAP, guest=can("after_file")) == "no_progress_dirty"


# The rung below


def below(pages: int, **saw: Any) -> Eviction:  # noqa: ANN401
    candidate = Candidate("/shop", 9, 0, 0, RECLAIM_SEQ, 0, pages)
    return opened(candidate, pages, inspection(**saw), NOW)


def reclaim(made: Eviction, rules: MemcgRules = BASE, guest: CapabilitiesRead = GUEST) -> Reclaim:
    found = next_write(made, rules, guest, NOW)
    assert isinstance(found, Reclaim)
    return found


def test_a_request_to_memory_reclaim_is_at_most_8_mib() -> None:
    made = below(100_000, file_bytes=1 << 30)
    assert reclaim(made) == Reclaim("/shop", 9, 2048, PAGE, -1)


def test_where_there_is_swap_it_says_that_file_pages_are_meant() -> None:
    assert reclaim(below(1_000, file_bytes=1 << 30, **ROOM)).swappiness == 0


def test_where_swap_is_asked_for_it_goes_by_the_mix_of_the_memcg() -> None:
    saw = {"file_bytes": 100 * MB, "anon_bytes": 10 * MB, **ROOM}
    assert reclaim(below(1_000, **saw), SWAP).swappiness == 18


def test_where_nothing_may_go_nothing_is_asked_for() -> None:
    assert why(below(1_000, anon_bytes=1 << 30)) == "nothing_may_go"


def asked(made: Eviction, wrote: Reclaim, got: int, **event: Any) -> Eviction:  # noqa: ANN401
    """The eviction after such a request, of which this much came."""
    assert made.last is not None
    total = made.last.evicted_total_pages + got
    after = replace_saw(made.last, evicted_total_pages=total)
    return accounted(made, BatchEnded("/shop", 0, wrote.pages, "done", after, **event), wrote, PAGE)


def replace_saw(saw: Inspection, **fields: Any) -> Inspection:  # noqa: ANN401
    return msgspec.structs.replace(saw, **fields)


def test_a_request_that_finds_nothing_is_not_repeated() -> None:
    made = below(20_000, file_bytes=400 * MB, dirty_bytes=400 * MB)
    assert why(asked(made, reclaim(made), 0)) == "no_progress_dirty"


def test_a_request_that_the_kernel_calls_unmet_is_the_last_though_much_came() -> None:
    made = below(20_000, file_bytes=400 * MB)
    assert why(asked(made, reclaim(made), 1_500, exhausted=True)) == "no_progress_in_use"


def test_a_request_that_is_met_is_followed_by_another() -> None:
    made = below(20_000, file_bytes=400 * MB)
    assert reclaim(asked(made, reclaim(made), 2_048)).pages == 2_048


def test_what_a_request_leaves_of_the_last_pages_is_a_normal_end() -> None:
    made = below(2_100, file_bytes=400 * MB)
    after = asked(made, reclaim(made), 2_048)
    assert why(asked(after, reclaim(after), 0)) == "cold_gone"


def test_shared_memory_is_nothing_that_goes_without_swap() -> None:
    assert why(below(1_000, file_bytes=1 << 30, shmem_bytes=1 << 30)) == "nothing_may_go"
    saw = {"file_bytes": 100 * MB, "shmem_bytes": 50 * MB, **ROOM}
    rules = replace(SWAP, swappiness_max=200)
    assert reclaim(below(1_000, **saw), rules).swappiness == 100


def test_before_6_9_the_kernel_chooses_where_anonymous_pages_may_go_too() -> None:
    saw = {"file_bytes": 100 * MB, "anon_bytes": 10 * MB, **ROOM}
    assert reclaim(below(1_000, **saw), SWAP, OLD).swappiness == -1
    full = {**saw, "swap_free_bytes": PAGE}
    assert reclaim(below(1_000, **full), SWAP, OLD).swappiness == -1


def test_before_6_9_nothing_is_asked_for_where_it_would_swap_against_the_rules() -> None:
    saw = {"file_bytes": 100 * MB, "anon_bytes": 10 * MB, **ROOM}
    assert why(below(1_000, **saw), BASE, guest=OLD) == "would_swap_too"
    assert reclaim(below(1_000, file_bytes=100 * MB), BASE, OLD).swappiness == -1
