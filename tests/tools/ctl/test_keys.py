from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_schemas.config import DEFAULTS, Config
from memreact_schemas.control import tables_from_wire, tables_to_wire
from memreact_tools.ctl.keys import Misused, key_names, patch_from, rule_from


@pytest.mark.parametrize(
    ("pairs", "patch"),
    [
        (["memcg.swap=true"], {"memcg": {"swap": True}}),
        (
            ["memcg.swap=true", "memcg.period_secs=300"],
            {"memcg": {"swap": True, "period_secs": 300}},
        ),
        (["memcg.period_psi_percent_limit=1"], {"memcg": {"period_psi_percent_limit": 1.0}}),
        (["memcg.period_psi_percent_limit=0.5"], {"memcg": {"period_psi_percent_limit": 0.5}}),
        (["compact.compact_order=auto"], {"compact": {"compact_order": "auto"}}),
        (["compact.compact_order=9"], {"compact": {"compact_order": "9"}}),
        (["compact.compact_sec_max=-1"], {"compact": {"compact_sec_max": -1}}),
        (
            ["compact.compact_force_times=18446744073709551615"],
            {"compact": {"compact_force_times": 2**64 - 1}},
        ),
        (["control.group=1234"], {"control": {"group": "1234"}}),
        (["control.group="], {"control": {"group": ""}}),
        ([" log.level = debug "], {"log": {"level": "debug"}}),
        (["reclaim.without_mglru=off"], {"reclaim": {"without_mglru": "off"}}),
    ],
)
def test_values_become_what_their_schema_says(
    pairs: list[str], patch: dict[str, dict[str, object]]
) -> None:
    assert patch_from(pairs) == patch


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("memcg.swp=true", r"did you mean memcg\.swap\?"),
        ("swap=true", r"did you mean memcg\.swap\?"),
        ("swapp=true", r"did you mean memcg\.swap\?"),
        ("memcg_swappiness_max=1", r"did you mean memcg\.swappiness_max\?"),
        ("period_secs=1", r"did you mean memcg\.period_secs or compact\.period_secs\?"),
        ("qqqq=1", "there are memcg.disabled, "),
        ("memcg.cgroup=1", "changed with `memreact-ctl rule`"),
        ("memcg.cgroup[/a].swap=1", "changed with `memreact-ctl rule`"),
        ("memcg.swap", "is not KEY=VALUE"),
        ("memcg.swap=yes", "memcg.swap=yes: expected true or false"),
        ("memcg.swap=1", "expected true or false"),
        ("memcg.swappiness_max=300", "expected a whole number from 0 to 200"),
        ("memcg.swappiness_max=1e400", "memcg.swappiness_max=1e400: expected a whole"),
        ("memcg.period_psi_percent_limit=nan", "expected a number from 0 to 100"),
        ("memcg.period_psi_percent_limit=1e400", "expected a number from 0 to 100"),
        ("memcg.period_secs=0", "expected a whole number from 1 to 315360000"),
        ("memcg.period_secs=" + "9" * 5000, "expected a whole number from 1 to"),
        (
            "compact.compact_force_times=18446744073709551616",
            "expected a whole number from 0 to 18446744073709551615",
        ),
        ("pressure.resume=now", 'expected "period" or "quiet"'),
        ("control.group=@", "expected the name of a group"),
        ("log.level=loud", 'expected "error" or "warning"'),
    ],
)
def test_what_no_schema_takes_is_refused_with_what_was_meant(pair: str, why: str) -> None:
    with pytest.raises(Misused, match=why):
        patch_from([pair])


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(Misused, match="twice"):
        patch_from(["memcg.swap=true", "memcg.swap=false"])


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", key_names())
def test_the_default_of_every_key_can_be_typed(name: str) -> None:
    table, _, key = name.partition(".")
    value = getattr(getattr(DEFAULTS, table), key)
    patch = patch_from([f"{name}={_written(value)}"])
    taken = msgspec.convert(tables_from_wire(patch), Config)
    assert getattr(getattr(taken, table), key) == value


@given(st.sampled_from(key_names()), st.text(max_size=12) | st.integers().map(str))
def test_any_text_is_a_value_or_is_refused(name: str, text: str) -> None:
    try:
        patch = patch_from([f"{name}={text}"])
    except Misused:
        return
    assert tables_to_wire(msgspec.convert(tables_from_wire(patch), Config)) == patch


def test_a_rule_is_made_of_its_place_and_its_keys() -> None:
    rule = rule_from("/shop", "0,1", ["swap=true", "memcg.floor_percent=5", "no_subdir=true"])
    assert rule == {
        "path": "/shop",
        "numa": [0, 1],
        "swap": True,
        "floor_percent": 5.0,
        "no_subdir": True,
    }
    assert rule_from("shop/", None, ["disabled=false"]) == {"path": "shop/", "disabled": False}


@pytest.mark.parametrize(
    ("path", "numa", "pair", "why"),
    [
        ("/a", None, "swp=true", "did you mean swap"),
        ("/a", None, "path=/b", "no rule has a key 'path'"),
        ("/a", None, "swap=2", "expected true or false"),
        ("/a", None, "period_secs=0", "expected a whole number from 1 to"),
        ("/../a", None, "swap=true", "without `.` or `..`"),
        ("/a\nb", None, "swap=true", "without NUL or newline"),
        ("/a", "x", "swap=true", "node numbers as in 0,1"),
        ("/a", "-1", "swap=true", "node numbers as in 0,1"),
        ("/a", "", "swap=true", "node numbers as in 0,1"),
        (
            "/a",
            "1024",
            "swap=true",
            "--numa: expected a list of at most 1024, each a whole number from 0 to 1023",
        ),
    ],
)
def test_a_rule_that_no_schema_takes_is_refused(
    path: str, numa: str | None, pair: str, why: str
) -> None:
    with pytest.raises(Misused, match=why):
        rule_from(path, numa, [pair])
