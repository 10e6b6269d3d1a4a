"""Each reason that the policy can give stands in the page that explains them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "journal.md").read_text()


def _first_words(name: str) -> set[str]:
    """The first argument of each call of `name` in the daemon, where it is a plain word."""
    found = set()
    for path in (ROOT / "memreact").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == name
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                found.add(node.args[0].value)
    return found


@pytest.mark.parametrize("word", sorted(_first_words("Because") | _first_words("Decision")))
def test_a_word_of_the_journal_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE
