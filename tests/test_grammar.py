"""The one grammar: what it reads, what it refuses, and what the refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, canonical, format_size, parse_size, resolve

OPTIONS = (
    Option("size", "size", 1 << 20, "size of the mapping", minimum=1),
    Option("stride", "int", 16, "pages between touches", minimum=1, maximum=1 << 20),
    Option("access", "choice", "write", "what a touch does", ("read", "write")),
    Option("atfork", "bool", False, "register anew"),
    Option("kernel", "path", None, "image to boot"),
)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,4})?", fullmatch=True)


@given(NAMES, st.dictionaries(NAMES, st.text("ab:/\\,=._ 0", min_size=1).map(str.strip)))
def test_text_of_a_spec_reads_back(name: str, options: dict[str, str]) -> None:
    spec = Spec.of(name, **options)
    assert Spec.parse(str(spec)) == spec


def test_switch_without_value_is_on() -> None:
    assert Spec.parse("uffd:atfork").get("atfork") == "yes"


@pytest.mark.parametrize("text", ["", "Memfd", ":block=1", "a:=1", "a:B=1", "a b"])
def test_refuses_what_is_no_spec(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Spec.parse(text, what="mechanism")
    assert "mechanism" in str(caught.value)
    assert caught.value.remedy


def test_option_given_twice() -> None:
    with pytest.raises(UsageError, match="twice"):
        Spec.parse("a:k=1,k=2")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64KiB", 65536),
        ("64k", 65536),
        ("1.5GiB", 3 << 29),
        ("2 MB", 2 << 20),
        ("-1", -1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1XB", "1.0001k", "0x10"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|bytes"):
        parse_size(text)


@given(st.integers(0, 1 << 50))
def test_exact_sizes_read_back(size: int) -> None:
    text = format_size(size)
    if "." not in text:
        assert parse_size(text) == size


def test_values_have_their_types() -> None:
    values = resolve(
        Spec.parse("w:kernel=a,size=2MiB,atfork,access=read"), OPTIONS, what="workload"
    )
    assert values.integer("size") == 2 << 20
    assert values.integer("stride") == 16
    assert values.text("access") == "read"
    assert values.switch("atfork") is True
    with pytest.raises(TypeError):
        values.integer("atfork")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("w:kernel=a,size=0", "at least 1B"),
        ("w:kernel=a,stride=-1", "at least 1"),
        ("w:kernel=a,stride=many", "whole number"),
        ("w:kernel=a,size=large", "a size"),
        ("w:kernel=a,stride=2000000", "at most"),
        ("w:kernel=a,access=reed", "Did you mean 'read'"),
        ("w:kernel=a,atfork=maybe", "yes or no"),
        ("w:kernel=a,strid=3", "Did you mean 'stride'"),
        ("w", "needs the option 'kernel'"),
    ],
)
def test_wrong_options_say_what_to_do(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(Spec.parse(text), OPTIONS, what="workload")
    assert says in str(caught.value)
    assert "'w'" in str(caught.value)


def test_canonical_is_equal_for_equal_things() -> None:
    first = canonical(Spec.parse("w:size=1024KiB,kernel=k,stride=0x10"), OPTIONS, what="workload")
    second = canonical(Spec.parse("w:kernel=k"), OPTIONS, what="workload")
    assert first == second
    assert str(first) == "w:kernel=k"
