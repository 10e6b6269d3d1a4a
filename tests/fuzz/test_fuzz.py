"""A small, fixed budget of what `make fuzz` does: saved examples, and the same changes of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelio.errors import MalformedReading
from tests.effort import examples
from tests.fuzz.corpus import CORPUS, examples_of
from tests.fuzz.targets import SERVERS, TARGETS, _kernel

_CORPUS_BYTES_MAX = 1 << 20
_MANY_DIGITS = b"9" * 5000
_DEEP = b"[" * 2000


def changed(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Examples cut, put together, and with bytes in between that parsers trip over."""
    whole = st.sampled_from(seeds)
    cut = st.builds(lambda data, at: data[: at % (len(data) + 1)], whole, st.integers(0, 1 << 12))
    odd = st.sampled_from((b"\0", b"\n", b"\xff", b"-1", b"1e999", _MANY_DIGITS, _DEEP))
    tail = st.builds(lambda data, at: data[at % (len(data) + 1) :], whole, st.integers(0, 1 << 12))
    pieces = st.one_of(cut, tail, odd, st.binary(max_size=32))
    return st.lists(pieces, min_size=1, max_size=4).map(b"".join)


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_saved_breaks_nothing(target: str) -> None:
    found = examples_of(target)
    assert found
    for example in found:
        TARGETS[target](example)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_to_what_was_saved_breaks_nothing(target: str) -> None:
    @given(changed(examples_of(target)))
    @settings(max_examples=examples(12 if target in SERVERS else 60))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


def test_the_corpus_is_small_and_all_of_it_is_of_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < _CORPUS_BYTES_MAX


@pytest.mark.parametrize("target", ["settings_file", "protobuf", "recording"])
def test_an_error_that_is_not_documented_breaks_a_target(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise KeyError(target)

    for name in ("load_text", "decode", "recording.read_lines"):
        monkeypatch.setattr(f"tests.fuzz.targets.{name}", broken)
    with pytest.raises(KeyError):
        TARGETS[target](b"x")


def test_a_parser_of_what_the_kernel_prints_may_refuse_and_nothing_else() -> None:
    def refuses(data: bytes) -> object:
        raise MalformedReading("/f", repr(data), "another")

    _kernel(refuses, b"x")
    with pytest.raises(ValueError, match="invalid literal"):
        _kernel(int, b"x")
