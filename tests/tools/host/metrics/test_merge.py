"""What several guests say, as one text that Prometheus reads; and what no guest may say."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_schemas.openmetrics import END
from memreact_tools.host.metrics.merge import (
    FAMILIES_MAX,
    LINES_MAX,
    Malformed,
    merged,
    parse_metrics,
)
from tests.official_openmetrics import families_of
from tests.tools.host.metrics.guests import text_of

HEAD = "# TYPE memreact_free_bytes gauge\n# UNIT memreact_free_bytes bytes\n"


def together(**texts: str) -> str:
    return "".join(merged({name: parse_metrics(text) for name, text in texts.items()})) + END


def test_every_sample_says_whose_it_is_and_is_otherwise_as_it_was() -> None:
    texts = {
        "shop": text_of("/a", "/b"),
        "till": text_of("/a", '/"odd\\name\n{,}', "/\r\x0c\u2028\x85"),
    }
    families = {family.name: family for family in families_of(together(**texts))}
    for name, text in texts.items():
        for family in families_of(text):
            mine = [
                (
                    sample.name,
                    {k: v for k, v in sample.labels.items() if k != "guest"},
                    sample.value,
                )
                for sample in families[family.name].samples
                if sample.labels["guest"] == name
            ]
            assert mine == [(s.name, s.labels, s.value) for s in family.samples]
            assert families[family.name].documentation == family.documentation


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_a_guest_is_read_back(name: str) -> None:
    for family in families_of(together(**{name: HEAD + "memreact_free_bytes 7\n" + END})):
        assert [sample.labels for sample in family.samples] == [{"guest": name}]


def test_of_a_family_that_means_two_things_to_as_many_the_first_one_counts() -> None:
    one = HEAD + "memreact_free_bytes 7\n" + END
    other = "# TYPE memreact_free_bytes counter\nmemreact_free_bytes_total 9\n" + END
    (family,) = families_of(together(one=one, other=other))
    assert [(sample.labels["guest"], sample.value) for sample in family.samples] == [("one", 7)]


def test_one_guest_that_means_something_else_by_a_name_hides_nothing_of_the_others() -> None:
    odd = "# TYPE memreact_free_bytes counter\nmemreact_free_bytes_total 9\n" + END
    usual = HEAD + "memreact_free_bytes 7\n" + END
    (family,) = families_of(together(odd=odd, shop=usual, till=usual))
    assert [sample.labels["guest"] for sample in family.samples] == ["shop", "till"]


@pytest.mark.parametrize(
    "line",
    [
        'memreact_free_bytes{guest="another"} 1',
        'memreact_free_bytes{a="1",guest="another"} 1',
        'memreact_free_bytes{a="1",a="2"} 1',
        'memreact_free_bytes{a="1"} 1 1700000000',
        "memreact_free_bytes NaN",
        "memreact_free_bytes ",
        "memreact_reported_bytes 1",
        "memreact_free_bytes_total 1",
        "up 1",
        "memreact_free_bytes 1\nmemreact_free_bytes 1",
        "# TYPE up gauge\nup 1",
        '# TYPE memreact_up gauge\nmemreact_up{guest="x"} 1',
        "# TYPE memreact_up gauge\nmemreact_up 1",
        "# HELP memreact_up what another says",
        "# TYPE memreact_scrape_seconds gauge\nmemreact_scrape_seconds 1",
        "memreact_free_bytes 1e999",
        'memreact_free_bytes{__name__="up"} 1',
        "# TYPE memreact_a gauge\nmemreact_a 1\n# TYPE memreact_free_bytes gauge",
        "# a remark",
        "",
        "# EOF",
        'memreact_free_bytes{a="\\x"} 1',
    ],
)
def test_what_memreact_does_not_write_is_refused(line: str) -> None:
    with pytest.raises(Malformed):
        parse_metrics(f"{HEAD}{line}\n{END}")


def test_a_guest_that_tells_without_end_is_refused_before_a_line_of_it_is_read() -> None:
    lines = "nonsense\n" * LINES_MAX
    with pytest.raises(Malformed, match="more than 120000 lines"):
        parse_metrics(f"{lines}{END}")


def test_a_guest_with_families_without_end_is_refused() -> None:
    heads = "".join(f"# TYPE memreact_a{number} gauge\n" for number in range(FAMILIES_MAX))
    assert len(parse_metrics(heads + END)) == FAMILIES_MAX
    with pytest.raises(Malformed, match="more than 1000 families"):
        parse_metrics(f"{heads}{HEAD}{END}")


@pytest.mark.parametrize(
    "text",
    ["", HEAD, HEAD + "memreact_free_bytes 1" + END, text_of("/a")[:-1], text_of("/a")[:400]],
)
def test_a_text_that_is_cut_off_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="cut off"):
        parse_metrics(text)


LINES = st.lists(
    st.one_of(
        st.sampled_from(text_of("/a").splitlines()),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.from_regex(r'\Amemreact_free_bytes\{[a-z="\\,]{0,20}\} [0-9.e+-]{1,5}\Z'),
    ),
    max_size=20,
)


@given(LINES)
def test_whatever_a_guest_says_is_refused_or_read_by_prometheus(lines: list[str]) -> None:
    with suppress(Malformed):
        metrics = parse_metrics("".join(f"{line}\n" for line in (*HEAD.splitlines(), *lines)) + END)
        for name, family in metrics.items():
            if "TYPE" in family.about and family.about["TYPE"] == "gauge":
                text = "".join(merged({"g": {name: family}})) + END
                for found in families_of(text):
                    assert {sample.labels["guest"] for sample in found.samples} <= {"g"}
