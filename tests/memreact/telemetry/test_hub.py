"""A slow follower loses its oldest items, and nothing else happens."""

from __future__ import annotations

import pytest

from memreact.telemetry.hub import Hub, Subscription
from memreact_schemas.status import Counters, DecisionRow, NextEviction, Status


def row(number: int) -> DecisionRow:
    return DecisionRow(number=number, at_us=0, verdict="leave", because="cold_gone")


def status(now: int) -> Status:
    return Status(
        version="1",
        revision=1,
        now_us=now,
        started_at_us=0,
        doing="resting",
        next_eviction=NextEviction(waits_for="no_cgroups", text=""),
        counters=Counters(),
    )


class Calls:
    """Counts how often somebody was told that something waits."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """Something waits."""
        self.count += 1


def numbers(follower: Subscription) -> list[int]:
    taken = []
    while (item := follower.take()) is not None:
        assert isinstance(item, DecisionRow)
        taken.append(item.number)
    return taken


def test_each_follower_has_all_items_in_their_order() -> None:
    hub = Hub()
    one, two = hub.subscribe(lambda: 9, Calls()), hub.subscribe(lambda: 9, Calls())
    for number in range(3):
        hub.publish(row(number))
    assert numbers(one) == numbers(two) == [0, 1, 2]
    assert hub.dropped == 0


def test_a_follower_hears_nothing_of_what_was_before_it_came() -> None:
    hub = Hub()
    hub.publish(row(1))
    follower = hub.subscribe(lambda: 9, Calls())
    hub.publish(row(2))
    assert numbers(follower) == [2]


def test_a_slow_follower_loses_its_oldest_and_the_others_lose_nothing() -> None:
    hub = Hub()
    slow, quick = hub.subscribe(lambda: 3, Calls()), hub.subscribe(lambda: 100, Calls())
    for number in range(10):
        hub.publish(row(number))
    assert (len(slow), slow.dropped, quick.dropped, hub.dropped) == (3, 7, 0, 7)
    assert numbers(slow) == [7, 8, 9]
    assert numbers(quick) == list(range(10))


def test_it_is_told_once_when_something_waits_and_again_after_it_took_all() -> None:
    hub, ready = Hub(), Calls()
    follower = hub.subscribe(lambda: 2, ready)
    for number in range(5):
        hub.publish(row(number))
    assert ready.count == 1
    numbers(follower)
    hub.publish(row(9))
    assert ready.count == 2


def test_a_status_waits_behind_decisions_and_only_the_newest_does_without_a_loss() -> None:
    hub, ready = Hub(), Calls()
    follower = hub.subscribe(lambda: 9, ready, status=True)
    hub.publish(status(1))
    hub.publish(row(7))
    hub.publish(status(2))
    assert (len(follower), follower.dropped, hub.dropped, ready.count) == (2, 0, 0, 1)
    assert follower.take() == row(7)
    assert follower.take() == status(2)
    assert follower.take() is None


@pytest.mark.parametrize(
    ("decisions", "wants_status", "left"), [(True, False, 1), (False, True, 1), (False, False, 0)]
)
def test_nobody_is_given_what_they_did_not_ask_for(
    decisions: bool,  # noqa: FBT001
    wants_status: bool,  # noqa: FBT001
    left: int,
) -> None:
    hub, ready = Hub(), Calls()
    follower = hub.subscribe(lambda: 9, ready, decisions=decisions, status=wants_status)
    hub.publish(row(1))
    hub.publish(status(1))
    assert (len(follower), ready.count) == (left, left)
    assert (hub.wants_decisions, hub.wants_status) == (decisions, wants_status)


def test_without_followers_nobody_wants_anything() -> None:
    hub = Hub()
    assert not hub.wants_decisions
    assert not hub.wants_status
    hub.publish(row(1))
    assert (hub.subscribers, hub.dropped) == (0, 0)


def test_who_leaves_is_given_nothing_more() -> None:
    hub = Hub()
    follower = hub.subscribe(lambda: 9, Calls(), status=True)
    hub.publish(row(1))
    hub.publish(status(1))
    follower.close()
    follower.close()
    hub.publish(row(2))
    assert (len(follower), hub.subscribers) == (0, 0)


def test_who_leaves_as_it_is_told_does_not_keep_others_from_being_told() -> None:
    hub = Hub()
    leavers: list[Subscription] = []

    def leave() -> None:
        leavers[0].close()

    leavers.append(hub.subscribe(lambda: 9, leave))
    stays = hub.subscribe(lambda: 9, Calls())
    hub.publish(row(1))
    assert numbers(stays) == [1]
    assert hub.subscribers == 1


def test_what_was_dropped_is_still_counted_when_its_follower_has_left() -> None:
    hub = Hub()
    follower = hub.subscribe(lambda: 1, Calls())
    hub.publish(row(1))
    hub.publish(row(2))
    follower.close()
    assert hub.dropped == 1


def test_how_many_wait_may_change_while_somebody_follows() -> None:
    hub, limit = Hub(), [2]
    follower = hub.subscribe(lambda: limit[0], Calls())
    for number in range(4):
        hub.publish(row(number))
    limit[0] = 4
    for number in range(4, 8):
        hub.publish(row(number))
    assert (numbers(follower), follower.dropped) == ([4, 5, 6, 7], 4)


def test_that_the_last_who_wants_status_has_left_is_told_once() -> None:
    hub, deserted = Hub(), Calls()
    hub.deserted = deserted
    one, two = (hub.subscribe(lambda: 9, Calls(), status=True) for _ in range(2))
    other = hub.subscribe(lambda: 9, Calls())
    one.close()
    assert deserted.count == 0
    two.close()
    two.close()
    other.close()
    assert deserted.count == 1
