"""Pictures of a screen that need nothing from elsewhere."""

from __future__ import annotations

import re

import pytest

from lab.screens import portable
from tests.tools.top.screens import screen

_BEFORE = (
    '<!-- by x -->\n<style>@font-face { src: url("x"); }\n.m { font-variant-east-asian: full-width;'
    " font-family: Fira Code, monospace; }</style>\n"
    '<text class="r1" x="12.2" y="20" textLength="61" clip-path="url(#a)">'
    "&#160;&#160;a&lt;&#160;</text>\n"
    '<text class="r2" x="80" y="20" textLength="24.4" clip-path="url(#a)">&#160;&#160;</text>\n'
)


def test_blanks_around_a_text_move_it_instead() -> None:
    (text,) = re.findall("<text.*", portable(_BEFORE))
    assert text == (
        '<text class="r1" x="36.6" y="20" textLength="24.4" lengthAdjust="spacingAndGlyphs"'
        ' clip-path="url(#a)">a&lt;</text>'
    )


def test_fonts_and_remarks_of_elsewhere_are_left_out() -> None:
    after = portable(_BEFORE)
    assert "url(" not in after.replace("url(#", "")
    assert "<!--" not in after
    assert "east-asian" not in after


@pytest.mark.asyncio
async def test_what_textual_draws_names_nobody_elsewhere() -> None:
    async with screen() as (top, _):
        after = portable(top.export_screenshot())
    assert re.findall(r"https?://[^\"]+", after) == ["http://www.w3.org/2000/svg"]
    assert after.count("<text") > 100
