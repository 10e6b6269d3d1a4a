"""The answer to WhatIf: a turn by the settings in force beside one by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from memreact.control.guest import Foreseen
from memreact.policy.dry_compaction import DryCompaction
from memreact.policy.dry_run import DryRun, Taken
from memreact.prospects import Prospects
from memreact.telemetry.decisions import as_text
from memreact_schemas.control import WhatIfCgroup, WhatIfTurn

__all__ = ["foreseen"]

_CGROUPS_MAX = 256
_NOTHING = Taken()


def foreseen(told: Prospects, page_bytes: int, *, rate_measured: bool) -> Foreseen:
    """Tell dry runs.

    Args:
        told: They.
        page_bytes: Of one page.
        rate_measured: How long they take is reckoned from evictions that there were.
    """
    rows = tuple(_cgroups_of(told, page_bytes))
    return Foreseen(
        now=_turn_of(told.now, told.compaction[0], page_bytes),
        then=_turn_of(told.then, told.compaction[1], page_bytes, told),
        cgroups=rows[:_CGROUPS_MAX],
        left_out=max(0, len(rows) - _CGROUPS_MAX),
        held_up=told.held_up,
        rate_measured=rate_measured,
    )


def _turn_of(
    run: DryRun, compaction: DryCompaction, page_bytes: int, told: Prospects | None = None
) -> WhatIfTurn:
    """Tell what a turn would come to.

    Args:
        run: It.
        compaction: What a look at free memory would.
        page_bytes: Of one page.
        told: All of them, where what is forbidden is to be told too.
    """
    taken = run.taken.values()
    left = Counter(
        each.because.code for each in taken if not each.pages and each.because is not None
    )
    return WhatIfTurn(
        at_most_bytes=_pages(run) * page_bytes,
        anon_bytes=sum(each.anon_pages for each in taken) * page_bytes,
        after_aging_bytes=sum(each.pages for each in taken if each.after_aging) * page_bytes,
        aged=run.aged,
        unaged_bytes=_unaged_pages(run, told) * page_bytes if told else 0,
        took_us=run.took_us,
        due_in_us=run.due_in_us,
        protected_bytes=_more(run, told.unprotected, page_bytes) if told else 0,
        stalled_bytes=_more(run, told.unstalled, page_bytes) if told else 0,
        left_alone=dict(left),
        compaction_bytes=compaction.expected_bytes,
        compaction_because=compaction.because.code,
        refused=None if run.refused is None else run.refused.code,
    )


def _pages(run: DryRun) -> int:
    return sum(each.pages for each in run.taken.values())


def _unaged_pages(run: DryRun, told: Prospects) -> int:
    return sum(each.anon_pages for key, each in run.taken.items() if key in told.unaged)


def _more(run: DryRun, other: DryRun, page_bytes: int) -> int:
    return max(0, _pages(other) - _pages(run)) * page_bytes


def _cgroups_of(told: Prospects, page_bytes: int) -> Iterator[WhatIfCgroup]:
    """Tell of each memcg and node of which something goes, or of which the reason changes."""
    now, then = told.now.taken, told.then.taken
    rows = {**dict.fromkeys(now), **dict.fromkeys(then)}
    for path, node in sorted(rows, key=lambda key: -_largest(told, key)):
        before, after = now.get((path, node), _NOTHING), then.get((path, node), _NOTHING)
        if before.pages or after.pages or _why(before) != _why(after):
            yield WhatIfCgroup(
                path=as_text(path),
                node=node,
                now_bytes=before.pages * page_bytes,
                now_because=_why(before),
                then_bytes=after.pages * page_bytes,
                then_anon_bytes=after.anon_pages * page_bytes,
                then_after_aging=after.after_aging,
                then_because=_why(after),
            )


def _largest(told: Prospects, key: tuple[str, int]) -> int:
    return max(told.then.taken.get(key, _NOTHING).pages, told.now.taken.get(key, _NOTHING).pages)


def _why(taken: Taken) -> str:
    return "" if taken.because is None else taken.because.code
