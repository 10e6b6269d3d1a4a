from __future__ import annotations

from lab.stalls import row


def test_a_row_tells_quantiles_and_the_share_of_windows_over_each_limit() -> None:
    assert row([0.0] * 50 + [6.0] * 40 + [30.0] * 10).split() == [
        *("6.0", "30.0", "30.0"),
        *("50", "%", "50", "%", "10", "%", "10", "%"),
    ]


def test_an_order_of_windows_does_not_matter() -> None:
    assert row([3.0, 1.0, 2.0]) == row([1.0, 2.0, 3.0])
