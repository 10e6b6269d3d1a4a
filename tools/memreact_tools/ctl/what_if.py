"""What a turn would come to with other settings, told to people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from memreact_schemas.control import WhatIfAnswer, WhatIfCgroup, WhatIfTurn
from memreact_tools.ctl.amounts import bounded
from memreact_tools.plain import plain

__all__ = ["what_if_in_words"]

_ROWS = 40
_MIB = 1 << 20
_US_PER_SEC = 1_000_000


def what_if_in_words(raw: bytes) -> str:
    """Tell an answer of WhatIf as a table: by the settings in force, and by the others."""
    answer = msgspec.json.decode(raw, type=WhatIfAnswer)
    return "\n".join(plain(line) for line in _lines(answer))


def _lines(answer: WhatIfAnswer) -> Iterator[str]:
    for each in answer.changed:
        yield f"{each.key}: {each.before or 'nothing'} -> {each.after or 'nothing'}"
    if not answer.changed:
        yield "these settings are in force already"
    yield from (f"note: {note}" for note in answer.notes)
    yield ""
    yield "the next turn, nothing touched; at the most, for what is in use stays"
    yield f"{'':<26}{'now':>12}{'then':>12}"
    yield from _figures(answer.now, answer.then)
    if not answer.rate_measured:
        yield "the time is a guess: this daemon has evicted nothing yet"
    if answer.held_up is not None:
        yield f"none can begin just now: {answer.held_up}"
    yield from _because(answer.then)
    yield from _cgroups(answer)


def _figures(now: WhatIfTurn, then: WhatIfTurn) -> Iterator[str]:
    for name, figures in (
        ("evicted", (now.at_most_bytes, then.at_most_bytes)),
        ("  of it anonymous", (now.anon_bytes, then.anon_bytes)),
        ("    of that without an age", (now.unaged_bytes, then.unaged_bytes)),
        ("  of it after an aging", (now.after_aging_bytes, then.after_aging_bytes)),
    ):
        yield f"{name:<26}" + "".join(f"{_size(each):>12}" for each in figures)
    yield f"{'cgroups aged':<26}{now.aged:>12}{then.aged:>12}"
    yield f"{'it begins in':<26}{_span(now.due_in_us):>12}{_span(then.due_in_us):>12}"
    yield f"{'time':<26}{_span(now.took_us):>12}{_span(then.took_us):>12}"
    gained = (now.compaction_bytes, then.compaction_bytes)
    yield f"{'reportable by compaction':<26}" + "".join(f"{_size(each):>12}" for each in gained)
    for name, turn in (("now", now), ("then", then)):
        if turn.refused is not None:
            yield f"{name} there would be no turn: {turn.refused}"


def _because(then: WhatIfTurn) -> Iterator[str]:
    if then.protected_bytes:
        yield f"protection forbids {_size(then.protected_bytes)} more"
    if then.stalled_bytes:
        yield f"stall of the last period forbids {_size(then.stalled_bytes)} more"
    if then.unaged_bytes:
        yield "without an age: swap was off, so which of it is in use shows only some periods later"
    if then.compaction_because and not then.compaction_bytes:
        yield f"then no compaction: {then.compaction_because}"
    if then.left_alone:
        told = sorted(then.left_alone.items(), key=lambda each: -each[1])
        yield "then left alone: " + ", ".join(f"{count} {code}" for code, count in told)


def _cgroups(answer: WhatIfAnswer) -> Iterator[str]:
    if not answer.cgroups:
        return
    yield ""
    yield f"{'now':>10}{'then':>10}  cgroup"
    yield from map(_cgroup, answer.cgroups[:_ROWS])
    left = max(0, len(answer.cgroups) - _ROWS) + answer.left_out
    if left > 0:
        yield f"{left} more"


def _cgroup(row: WhatIfCgroup) -> str:
    why = row.then_because
    if row.now_because != row.then_because and row.now_because:
        why = f"{row.now_because} -> {row.then_because or 'nothing'}"
    about = [why] if why else []
    about += [f"{_size(row.then_anon_bytes)} anonymous"] if row.then_anon_bytes else []
    about += ["after an aging"] if row.then_after_aging else []
    node = f" on node {row.node}" if row.node else ""
    sizes = f"{_size(row.now_bytes):>10}{_size(row.then_bytes):>10}"
    return f"{sizes}  {row.path}{node}" + (f" ({', '.join(about)})" if about else "")


def _size(size_bytes: int) -> str:
    return "0" if not size_bytes else f"{bounded(size_bytes) / _MIB:.1f} MiB"


def _span(us: int) -> str:
    return f"{bounded(us) / _US_PER_SEC:.1f} s"
