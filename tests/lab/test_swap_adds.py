from __future__ import annotations

from lab.swap_adds import Taken, as_text


def test_of_each_length_of_time_the_middle_the_least_and_the_most_is_told() -> None:
    taken = [Taken(250_000, 90_000, 140_000), Taken(200_000, 80_000, 130_000), Taken(900_000, 0, 1)]
    head, whole, waited, guest = as_text(taken).splitlines()
    assert head == "swap: 3 disks, ms: p50, least, most"
    assert whole.split() == ["device_add", "to", "swapon", "done", "250", "200", "900"]
    assert waited.split()[-3:] == ["80", "0", "90"]
    assert guest.split()[-3:] == ["130", "0", "140"]
