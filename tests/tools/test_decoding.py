from __future__ import annotations

import sys
from threading import Barrier, Thread

import msgspec
import pytest
from msgspec import Struct

from memreact_tools.decoding import decoded

THREADS = 4


def test_threads_that_meet_a_type_at_once_all_read_it() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(50):
            inner = msgspec.defstruct(f"Inner{number}", [(f"k{at}", int, 0) for at in range(20)])
            outer = msgspec.defstruct(f"Outer{number}", [("inner", list[inner])])  # type: ignore[valid-type]
            read: list[Struct] = []
            begin = Barrier(THREADS)

            def meet(kind: type[Struct] = outer, begin: Barrier = begin) -> None:
                begin.wait()
                read.append(decoded(b'{"inner":[{"k1":7}]}', kind))  # noqa: B023  # of this round

            threads = [Thread(target=meet) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [one.inner[0].k1 for one in read] == [7] * THREADS  # type: ignore[attr-defined]
    finally:
        sys.setswitchinterval(before)


def test_what_is_not_of_the_type_is_msgspec_s_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(b'"x"', int)
