from __future__ import annotations

import itertools
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_schemas.agent import (
    ADD_SWAP,
    ADD_SWAP_PATH,
    COMPACT_CONFIG,
    MEMCG_CONFIG,
    AddSwapPathRequest,
    AddSwapRequest,
    MemAgentMemcgConfig,
)
from memreact_schemas.protobuf import ProtobufError, decode
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.kata_commands import (
    COMMANDS,
    Call,
    Echo,
    List,
    Pause,
    Quit,
    Repeat,
    answer_in_words,
    parse_command,
    steps,
)
from memreact_tools.ctl.keys import Misused


def _payload(text: str) -> bytes:
    command = parse_command(text)
    assert isinstance(command, Call)
    return command.payload


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("MemAgentMemcgSet", ""),
        ("  MemAgentMemcgSet  ", ""),
        ("MemAgentMemcgSet json://{}", ""),
        ('MemAgentMemcgSet json://{"swap":null}', ""),
        ('MemAgentMemcgSet json://{"swap":true}', "1001"),
        ('MemAgentMemcgSet json://{"disabled":false,"period_secs":300}', "080020ac02"),
        (
            'MemAgentCompactSet json://{"compact_force_times":18446744073709551615}',
            "40ffffffffffffffffff01",
        ),
        ('MemAgentCompactSet json://{"compact_sec_max":-1}', "28ffffffffffffffffff01"),
        ('MemAgentMemcgSet json://{ "swap" :  true }', "1001"),
        ('MemAgentMemcgSet\tjson://{"swap":true}', "1001"),
        ("Check", ""),
        ("Version", ""),
    ],
)
def test_a_message_is_encoded_as_the_agent_reads_it(text: str, payload: str) -> None:
    assert _payload(text).hex() == payload


def test_swap_is_added_by_slots_or_by_path() -> None:
    slots = decode(ADD_SWAP, _payload('AddSwap json://{"PCIPath":[3,0]}'))
    assert slots == AddSwapRequest(pci_path=(3, 0))
    assert _payload('AddSwap json://{"pci_path":[3,0]}') == _payload(
        'AddSwap json://{"PCIPath":[3,0]}'
    )
    path = decode(ADD_SWAP_PATH, _payload('AddSwapPath json://{"path":"nbd://a b"}'))
    assert path == AddSwapPathRequest(path="nbd://a b")


def test_a_message_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{\n  "swap": true,\n  "swappiness_max": 60\n}\n')
    message = decode(MEMCG_CONFIG, _payload(f"MemAgentMemcgSet file://{file}"))
    assert message == MemAgentMemcgConfig(swap=True, swappiness_max=60)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('MemAgentMemcgSet json://{"swp":true}', "did you mean swap?"),
        ('MemAgentMemcgSet json://{"memcg_swap":true}', "did you mean swap?"),
        ('MemAgentCompactSet json://{"compact_period_secs":1}', "did you mean period_secs?"),
        ('MemAgentCompactSet json://{"order":1}', "did you mean compact_order?"),
        ('MemAgentCompactSet json://{"swap":true}', "has no key 'swap'"),
        ('AddSwap json://{"pcipath":[1]}', "did you mean"),
        ('MemAgentMemcgSet json://{"swap":1}', "swap is true or false, not 1"),
        ('MemAgentMemcgSet json://{"swap":"true"}', 'swap is true or false, not "true"'),
        ('MemAgentMemcgSet json://{"period_secs":-1}', "period_secs is a whole number from 0 to"),
        ('MemAgentMemcgSet json://{"period_secs":true}', "a whole number from 0"),
        ('MemAgentMemcgSet json://{"period_secs":1.0}', "a whole number from 0"),
        ('MemAgentMemcgSet json://{"swappiness_max":4294967296}', "from 0 to 4294967295"),
        ('MemAgentMemcgSet json://{"period_secs":18446744073709551616}', "a whole number from 0"),
        ('MemAgentMemcgSet json://{"period_secs":1e400}', "MemAgentMemcgSet: "),
        ('MemAgentCompactSet json://{"compact_sec_max":9223372036854775808}', "to 922337203685"),
        ('AddSwapPath json://{"path":3}', "path is text, not 3"),
        ('AddSwap json://{"PCIPath":["3"]}', "a whole number"),
        ('AddSwap json://{"PCIPath":3}', "pci_path is a list"),
        ("MemAgentMemcgSet json://\udcff", "MemAgentMemcgSet: "),
        ("MemAgentMemcgSet json://\ud800", "surrogates not allowed"),
        ("MemAgentMemcgSet json://[]", "a JSON object"),
        ("MemAgentMemcgSet json://{", "truncated"),
        ("MemAgentMemcgSet disabled=true", "neither json://"),
        ("MemAgentMemcgSet yaml://x", "neither json://"),
        ("MemAgentMemcgSet file:///no/such/file", "No such file"),
        ("memagentmemcgset", "did you mean MemAgentMemcgSet?"),
        ("MemAgentMemgSet", "did you mean MemAgentMemcgSet?"),
        ("Chek", "did you mean Check?"),
        ("", "there are MemAgentMemcgSet, "),
        ("repeat x", "a number of times"),
        ("repeat -2", "a number of times"),
        ("sleep", "no length of time"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(text: str, why: str) -> None:
    with pytest.raises(Misused, match=re.escape(why)):
        parse_command(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("echo a  b", Echo("a  b")),
        ("help", List()),
        ("list", List()),
        ("sleep 5s", Pause(5.0)),
        ("repeat 3", Repeat(3)),
        ("quit", Quit()),
    ],
)
def test_the_built_in_commands_are_read(text: str, command: object) -> None:
    assert parse_command(text) == command


def test_a_repeat_repeats_the_next_command_alone() -> None:
    done = steps(iter([Echo("a"), Repeat(2), Echo("b"), Repeat(0), Echo("c"), Echo("d")]))
    assert list(done) == [Echo("a"), Echo("b"), Echo("b"), Echo("d")]


def test_a_repeat_for_ever_does_not_end() -> None:
    done = steps(iter([Repeat(-1), Echo("a")]))
    assert list(itertools.islice(done, 1000)) == [Echo("a")] * 1000


def test_nothing_is_done_after_quit() -> None:
    assert list(steps(iter([Quit(), Echo("a")]))) == [Quit()]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("5s", 5), ("0.5", 0.5), ("100ms", 0.1), ("1m 30s", 90), ("2h", 7200), (" 1 s ", 1)],
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "5x", "s", "1s x", "nan", "1e3", "9" * 12])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(Misused, match="no length of time"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_command_or_is_refused(text: str) -> None:
    try:
        parse_command(text)
    except Misused:
        return
    assert text.split(maxsplit=1)[0] in COMMANDS


KEYS = st.sampled_from([*MEMCG_CONFIG.make.__struct_fields__, "other"])
JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(KEYS, JSON | st.lists(JSON)))
def test_what_is_sent_is_what_was_said(said: dict[str, object]) -> None:
    text = msgspec.json.encode(said).decode()
    try:
        payload = _payload(f"MemAgentMemcgSet json://{text}")
    except Misused:
        return
    kept = {key: value for key, value in said.items() if value is not None}
    message = decode(MEMCG_CONFIG, payload)
    assert {k: v for k, v in msgspec.structs.asdict(message).items() if v is not None} == kept


def test_answers_are_said_in_words() -> None:
    assert answer_in_words("MemAgentMemcgSet", b"") == ({}, "MemAgentMemcgSet: done")
    assert answer_in_words("Check", b"\x08\x01") == ({"status": 1}, "Check: SERVING")
    assert answer_in_words("Check", b"\x08\x02") == ({"status": 2}, "Check: status 2")
    with pytest.raises(ProtobufError):
        answer_in_words("Version", b"\x0a")


def test_the_compact_message_has_the_keys_that_the_agent_has() -> None:
    assert _payload('MemAgentCompactSet json://{"disabled":true}') == b"\x08\x01"
    assert decode(COMPACT_CONFIG, b"").disabled is None
