"""The properties are programs that every interpreter can read, and expectations that fit them."""

from __future__ import annotations

import pytest

from refbench.mechanisms import MECHANISMS
from refbench.program import dump, parse
from refbench.semantics.expected import EXPECTED
from refbench.semantics.properties import PROPERTIES
from refbench.words import Verdict


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("name", PROPERTIES)
def test_a_program_reads_back_as_itself(name: str, page_size: int) -> None:
    program = PROPERTIES[name].program(page_size)
    assert program.observe_all
    assert parse(dump(program)) == program


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_says_what_it_is_about_in_sentences(name: str) -> None:
    item = PROPERTIES[name]
    assert item.title.endswith(".")
    assert item.answers.endswith((".", "?"))


def test_expectations_name_what_exists() -> None:
    mechanisms = {item.name: item for item in MECHANISMS}
    assert set(EXPECTED) <= set(mechanisms)
    for mechanism, expected in EXPECTED.items():
        options = {option.name for option in mechanisms[mechanism].options}
        for key in expected:
            name, _, conditions = key.partition("@")
            assert name in PROPERTIES, key
            for condition in filter(None, conditions.split(",")):
                known = condition.startswith("kernel<") or condition.split("=")[0] in {
                    *options,
                    "uffd",
                }
                assert known, key


def test_every_expectation_has_its_reason() -> None:
    for expected in EXPECTED.values():
        for verdict, reason in expected.values():
            assert verdict is not Verdict.FAILED
            assert reason.endswith(".")
