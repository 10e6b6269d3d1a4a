"""Each reason that the policy can give stands in the page that explains them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "journal.md").read_text()


def _first_words(*names: str) -> set[str]:
    """The first argument of each call of these in the daemon, where it is a plain word."""
    texts = [path.read_text() for path in (ROOT / "memreact").rglob("*.py")]
    found = set()
    for text in texts:
        if not any(name in text for name in names):
            continue  # most files: every worker collects this, and reading them costs a second
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in names
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                found.add(node.args[0].value)
    return found


@pytest.mark.parametrize("word", sorted(_first_words("Because", "Decision")))
def test_a_word_of_the_journal_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE
