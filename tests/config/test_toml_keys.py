"""In which line of a TOML file a key stands, however it is written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.config.toml_keys import Key, key_lines, line_of

DOCUMENT = '''\
# listen = "not here"
listen = "a # b = [" # max_body = 1

pool = """
pool_in_text = 1
\\""" [no.table]
"""
  "quoted key" = 'x = [{'
numbers = [ # a comment with ]
  1,
  [2, 3],
]
max_body = 5
sources.hq.file = "hq.csv"
[sources.berlin] # a comment
file = \'\'\'
[not.a.table]\'\'\'\'\'
[ sources . "new york" ]
file = "ny.csv"
[[array]]
key = {a = 1, b = "]"}
after = 1979-05-27T07:32:00Z
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("listen",), 2),
        (("pool",), 4),
        (("quoted key",), 8),
        (("numbers",), 9),
        (("max_body",), 13),
        (("sources",), 14),
        (("sources", "hq", "file"), 14),
        (("sources", "berlin"), 15),
        (("sources", "berlin", "file"), 16),
        (("sources", "new york"), 18),
        (("sources", "new york", "file"), 19),
        (("array",), 20),
        (("array", "key"), 21),
        (("array", "after"), 22),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_key_is_in_the_line_where_it_is_written(key: Key, line: int) -> None:
    tomllib.loads(DOCUMENT)
    assert key_lines(DOCUMENT)[key] == line


def test_nothing_in_texts_and_comments_is_a_key() -> None:
    assert {key[-1] for key in key_lines(DOCUMENT)} == {
        "listen", "pool", "quoted key", "numbers", "max_body", "sources", "hq", "file", "berlin", "new york", "array", "key",
        "after",
    }  # fmt: skip


def test_a_key_of_an_inline_table_is_in_its_table_s_line() -> None:
    lines = key_lines('\n\nsources = { hq = { file = 5 } }\n"a\\u0062" = 1\n')
    assert line_of(lines, ("sources", "hq", "file")) == 3
    assert line_of(lines, ("ab",)) == 4


def test_a_key_that_is_nowhere_has_no_line() -> None:
    assert line_of(key_lines("a = 1"), ("b",)) is None


_KEY = st.text("abc-_1", min_size=1, max_size=3)
_VALUE = st.sampled_from(['"x"', "'='", "[1, 2]", "{ z = 1 }", '"""\n\n"""', "[\n1,\n]", "true", '"\\""', '""'])


@given(st.dictionaries(_KEY, _VALUE, max_size=6), st.lists(st.sampled_from(["", "# a = 1", "  "]), max_size=3))
def test_every_key_that_tomllib_reads_has_the_line_that_it_was_written_in(
    values: dict[str, str], between: list[str]
) -> None:
    text, wanted = "", {}
    for key, value in values.items():
        text += "".join(f"{line}\n" for line in between)
        wanted[(key,)] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    assert tomllib.loads(text).keys() == {key[0] for key in wanted}
    assert key_lines(text) == wanted


@given(st.text("[]{}=.#'\"\\\nab ", max_size=60))
def test_any_valid_document_is_read_to_its_end(text: str) -> None:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {key[0] for key in key_lines(text)} == set(values)
