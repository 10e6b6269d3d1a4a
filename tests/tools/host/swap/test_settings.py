from __future__ import annotations

import pytest

from memreact_tools.host.kata_file import KataFile, Unreadable
from memreact_tools.host.kata_options import BadValue, UnknownOption
from memreact_tools.host.swap.settings import DEFAULT_PATH, swap_settings
from memreact_tools.host.swap.sizing import SwapSettings
from tests.tools.host.kata import CONFIGURATION

KATA = KataFile.parse(CONFIGURATION)


def test_without_a_file_the_defaults_hold_and_asking_enables() -> None:
    assert swap_settings([]) == SwapSettings(
        enable_guest_swap=True,
        guest_swap_path=DEFAULT_PATH,
        guest_swap_size_percent=100,
        guest_swap_create_threshold_secs=60,
    )


def test_what_stands_in_katas_file_holds_and_what_is_commented_out_does_not() -> None:
    text = CONFIGURATION.replace("size_percent = 100", "size_percent = 50")
    found = swap_settings([], KataFile.parse(text))
    assert (found.enable_guest_swap, found.guest_swap_size_percent) == (False, 50)
    assert found.guest_swap_path == DEFAULT_PATH


def test_a_pair_goes_before_the_file() -> None:
    pairs = ["enable_guest_swap=true", "guest_swap_path=/srv/swap", "guest_swap_size_percent=7"]
    found = swap_settings(pairs, KATA)
    assert found.enable_guest_swap
    assert (found.guest_swap_path, found.guest_swap_size_percent) == ("/srv/swap", 7)


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        ("guest_swap_size_percent", BadValue),
        ("guest_swap_size_percent=-1", BadValue),
        ("guest_swap_size_percent=half", BadValue),
        ("guest_swap_percent=5", UnknownOption),
        ("memcg_swap=true", UnknownOption),
    ],
)
def test_a_pair_that_says_nothing_is_refused(pair: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        swap_settings([pair])


@pytest.mark.parametrize("value", ['"100"', "true", "-1", "1.5"])
def test_a_value_in_the_file_that_kata_would_refuse_is_refused(value: str) -> None:
    text = CONFIGURATION.replace("size_percent = 100", f"size_percent = {value}")
    with pytest.raises(BadValue, match="guest_swap_size_percent"):
        swap_settings([], KataFile.parse(text))


@pytest.mark.parametrize("text", ["memcg_swap = true\n", "[agent.kata]\nx = 1\n"])
def test_a_file_without_a_hypervisor_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="hypervisor"):
        swap_settings([], KataFile.parse(text))
