"""What is wrong in a settings file, said with its place and what would have been right."""

from __future__ import annotations

import pytest

from memreact.settings.errors import SettingsError, values_of
from memreact.settings.files import load_text
from memreact_schemas.config import Config


def error_of(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_text(text, "/etc/f.toml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[memcg\n", "/etc/f.toml:1:7: not TOML: Expected ']' at the end of a table declaration"),
        ("\na = 1\na = 2\n", "/etc/f.toml:3:6: not TOML: Cannot overwrite a value"),
        (
            "[memcg]\nperiod_secs = 0\n",
            (
                "/etc/f.toml:2: memcg.period_secs: found 0, "
                "expected a whole number from 1 to 315360000"
            ),
        ),
        (
            "[memcg]\nswap = 'yes'\n",
            '/etc/f.toml:2: memcg.swap: found "yes", expected true or false',
        ),
        (
            "[log]\nlevel = 'loud'\n",
            (
                '/etc/f.toml:2: log.level: found "loud", '
                'expected "error" or "warning" or "notice" or "info" or "debug"'
            ),
        ),
        (
            "[compact]\ncompact_order = 1.5\n",
            (
                "/etc/f.toml:2: compact.compact_order: found 1.5, "
                'expected a whole number from 0 to 255 or "auto"'
            ),
        ),
        (
            "[reclaim]\npercent_per_period = 0\n",
            (
                "/etc/f.toml:2: reclaim.percent_per_period: found 0, "
                "expected a number over 0, up to 20"
            ),
        ),
        (
            "[memcg]\neviction_run_aging_count_min = 18446744073709551616\n",
            (
                "/etc/f.toml:2: memcg.eviction_run_aging_count_min: found 18446744073709551616, "
                "expected a whole number from 0 to 18446744073709551615"
            ),
        ),
        (
            "[pressure]\nsystem_psi_percent_limit = nan\n",
            (
                "/etc/f.toml:2: pressure.system_psi_percent_limit: found nan, "
                "expected a number from 0 to 100"
            ),
        ),
        (
            "[memcg]\nswap = 1979-05-27\n",
            "/etc/f.toml:2: memcg.swap: found a date, expected true or false",
        ),
        (
            "[[memcg.cgroup]]\npath = '/a/../b'\n",
            (
                '/etc/f.toml:2: memcg.cgroup[0].path: found "/a/../b", '
                "expected a path without `.` or `..`"
            ),
        ),
        (
            "[[memcg.cgroup]]\nnuma = [0]\n",
            "/etc/f.toml:1: memcg.cgroup[0]: found a table, expected a table with the key `path`",
        ),
        (
            "[[memcg.cgroup]]\npath = 'a'\n[[memcg.cgroup]]\npath = '/a/'\n",
            (
                "/etc/f.toml:3: memcg.cgroup[1]: found a table, "
                "expected one entry for each path and numa: an earlier one has the same"
            ),
        ),
        (
            "[memcg.cgroup]\npath = 'a'\n",
            (
                "/etc/f.toml:1: memcg.cgroup: found a table, "
                "expected a list of at most 10000, each a table"
            ),
        ),
        (
            "[[memcg.cgroup]]\npath = '/a'\nnuma = 1\n",
            (
                "/etc/f.toml:3: memcg.cgroup[0].numa: found 1, "
                "expected a list of at most 1024, each a whole number from 0 to 1023"
            ),
        ),
        ("memcg = 5\n", "/etc/f.toml:1: memcg: found 5, expected a table"),
    ],
)
def test_an_error_names_file_line_key_what_was_found_and_what_was_expected(
    text: str, says: str
) -> None:
    assert str(error_of(text)) == says


def test_each_part_of_an_error_can_be_read_off_it() -> None:
    error = error_of("[memcg]\n\nswappiness_max = 300\n")
    assert (error.origin, error.line, error.column) == ("/etc/f.toml", 3, None)
    assert (error.key, error.found) == ("memcg.swappiness_max", "300")
    assert error.expected == "a whole number from 0 to 200"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[memcg]\nswapp = true", "did you mean `swap`?"),
        ("[memcg]\nmemcg_swap = true", "did you mean `swap`?"),
        ("[memcg]\ndisable = true", "did you mean `disabled`?"),
        ("[memcg]\nmemcg_disable = true", "did you mean `disabled`?"),
        ("[memgc]\nswap = true", "did you mean `memcg`?"),
        ("[[memcg.cgroups]]\npath = '/a'", "did you mean `cgroup`?"),
        ("[[memcg.cgroup]]\npath = '/a'\nnumma = [1]", "did you mean `numa`?"),
        ("[compact]\norder = 9", "did you mean `compact_order`?"),
        ("[memcg]\nwindow_ms = 500", "`window_ms` belongs to [pressure]"),
        ("swappiness_max = 5", "`swappiness_max` belongs to [memcg]"),
        ("[log]\nxyzzy = 5", "one of level, decisions"),
        ("[swap]\ndevice_wait_sec = 5", "did you mean `device_wait_secs`?"),
    ],
)
def test_an_unknown_key_is_met_with_the_near_one(text: str, hint: str) -> None:
    error = error_of(text)
    assert hint in error.expected
    assert error.found.startswith("the unknown key")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[memcg]\nswap = true\n\n# period_secs = 1\nperiod_secs = 0\n", 5),
        ("memcg.swap = true\nmemcg.period_secs = 0\n", 2),
        ("memcg = { swap = true, period_secs = 0 }\n", 1),
        ("[[memcg.cgroup]]\npath = '/a'\nnuma = [\n 0,\n 'x',\n]\n", 3),
        ("[[memcg.cgroup]]\npath = '/a'\n[[memcg.cgroup]]\npath = '/b'\nswap = 1\n", 5),
        ("[[memcg.cgroup]]\npath = '''\n[log]\nlevel = 5\n'''\nswap = true\n", 2),
        ("[log]\r\nlevel = 5\r\n", 2),
    ],
)
def test_the_line_is_the_one_where_the_key_stands(text: str, line: int) -> None:
    assert error_of(text).line == line


def test_a_text_too_large_to_look_through_has_no_line_but_still_an_error() -> None:
    error = error_of("x = '''\n" + ("1" * 999 + "\n") * 200 + "'''\n")  # soon read, line by line
    assert error.line is None
    assert "unknown key" in error.found


def test_a_list_that_is_too_long_is_told_its_limit() -> None:
    error = error_of("memcg.cgroup = [" + "{path = '/'}," * 10_001 + "]")
    assert error.found == "a list of 10001"
    assert error.expected.startswith("a list of at most 10000")


@pytest.mark.parametrize("opening", ["[", "{a="])
def test_a_value_nested_without_end_is_refused(opening: str) -> None:
    assert "nested too deeply" in str(error_of("x = " + opening * 100_000))


def test_a_number_of_thousands_of_digits_is_refused_and_not_printed() -> None:
    assert "digits" in str(error_of("[memcg]\nperiod_secs = " + "9" * 5000))
    assert error_of("[memcg]\nperiod_secs = 0x" + "f" * 5000).found == "a number of 20000 bits"


def test_a_long_value_is_cut_and_an_unprintable_one_escaped() -> None:
    assert len(error_of("[log]\nlevel = '" + "x" * 1000 + "'").found) < 70
    assert error_of('[log]\nlevel = "\\u001b[2J"').found == "'\\x1b[2J'"


def test_a_key_that_looks_like_the_end_of_a_message_is_still_quoted() -> None:
    error = error_of('"a` - at `$.memcg" = 1\n')
    assert error.expected
    assert str(error).startswith("/etc/f.toml")


def test_every_key_says_which_values_it_takes() -> None:
    for table in Config.__struct_fields__:
        for key in getattr(Config(), table).__struct_fields__:
            assert values_of((table, key)), f"{table}.{key}"


def test_a_key_that_is_not_there_takes_no_values() -> None:
    assert values_of(("memcg", "nonsense")) == ""
    assert values_of(("memcg", 0)) == ""
    assert values_of(("memcg", "swap", "deeper")) == ""
