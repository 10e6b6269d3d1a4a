"""memreact-ctl what-if: a table for people."""

from __future__ import annotations

import msgspec

from memreact_schemas.control import ChangedKey, WhatIfAnswer, WhatIfCgroup, WhatIfTurn
from memreact_tools.ctl.what_if import what_if_in_words

MIB = 1 << 20
ANSWER = WhatIfAnswer(
    changed=(ChangedKey(key="memcg.swap", before="false", after="true", origin="pushed"),),
    notes=("this guest has no swap",),
    now=WhatIfTurn(
        at_most_bytes=300 * MIB,
        took_us=1_500_000,
        aged=3,
        compaction_bytes=12 * MIB,
        compaction_because="gain",
    ),
    then=WhatIfTurn(
        at_most_bytes=400 * MIB,
        anon_bytes=100 * MIB,
        unaged_bytes=90 * MIB,
        due_in_us=7_000_000,
        compaction_because="too_little_to_gain",
        protected_bytes=64 * MIB,
        stalled_bytes=MIB,
        left_alone={"frozen": 1, "nothing_cold_yet": 9},
    ),
    cgroups=(
        WhatIfCgroup(
            path="/shop\x1b[2J",
            node=1,
            now_bytes=300 * MIB,
            now_because="cold_gone",
            then_bytes=400 * MIB,
            then_anon_bytes=100 * MIB,
            then_after_aging=True,
            then_because="protected",
        ),
    ),
    left_out=2,
    held_up="paused",
    rate_measured=False,
)


def told(answer: WhatIfAnswer) -> list[str]:
    return what_if_in_words(msgspec.json.encode(answer)).splitlines()


def test_both_turns_stand_side_by_side() -> None:
    lines = told(ANSWER)
    assert lines[0] == "memcg.swap: false -> true"
    assert "evicted                      300.0 MiB   400.0 MiB" in lines
    assert "  of it anonymous                    0   100.0 MiB" in lines
    assert "    of that without an age           0    90.0 MiB" in lines
    assert "it begins in                     0.0 s       7.0 s" in lines
    assert "time                             1.5 s       0.0 s" in lines
    assert "reportable by compaction      12.0 MiB           0" in lines


def test_what_is_forbidden_is_told_with_its_amount() -> None:
    text = "\n".join(told(ANSWER))
    assert "protection forbids 64.0 MiB more" in text
    assert "stall of the last period forbids 1.0 MiB more" in text
    assert "then left alone: 9 nothing_cold_yet, 1 frozen" in text
    assert "without an age: swap was off" in text
    assert "then no compaction: too_little_to_gain" in text
    assert "none can begin just now: paused" in text
    assert "the time is a guess" in text


def test_each_cgroup_has_a_row_that_no_terminal_acts_on() -> None:
    row, more = told(ANSWER)[-2:]
    assert "\x1b" not in row
    assert row.startswith(" 300.0 MiB 400.0 MiB  /shop")
    assert "on node 1 (cold_gone -> protected, 100.0 MiB anonymous, after an aging)" in row
    assert more == "2 more"


def test_settings_that_are_in_force_and_no_turn_at_all_are_told() -> None:
    nothing = WhatIfTurn(refused="disabled")
    answer = WhatIfAnswer(
        changed=(),
        notes=(),
        now=nothing,
        then=nothing,
        cgroups=(),
        left_out=0,
        rate_measured=True,
    )
    text = "\n".join(told(answer))
    assert text.startswith("these settings are in force already")
    assert "then there would be no turn: disabled" in text
