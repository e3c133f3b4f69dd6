"""The declarations of the mechanisms."""

from __future__ import annotations

import pytest

from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench.mechanisms import MECHANISMS
from refbench.plan import AHEAD_OF_KERNELS


def test_every_declaration_has_its_sources() -> None:
    names = [mechanism.name for mechanism in MECHANISMS]
    assert sorted(names) == sorted(set(names))
    assert {text.partition(":")[0] for text in AHEAD_OF_KERNELS} <= set(names)
    for mechanism in MECHANISMS:
        assert mechanism.sources or mechanism.only_executed
        for source in mechanism.sources:
            assert source.is_file()


def test_no_source_is_left_out() -> None:
    folder = MECHANISMS[0].sources[0].parent
    declared = {source for mechanism in MECHANISMS for source in mechanism.sources}
    assert declared == set(folder.glob("*.c"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("memfd:block=1", "memfd"),
        ("memfd:block=0x10,huge=0", "memfd:block=16"),
        ("memfd:huge=2048k", "memfd:huge=2MiB"),
        ("uffd:atfork", "uffd:atfork=yes"),
        ("uffd:events=none,atfork=no", "uffd"),
    ],
)
def test_options_have_one_spelling(text: str, canonical: str) -> None:
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    spec = Spec.parse(text)
    assert str(known[spec.name].canonical(spec)) == canonical


@pytest.mark.parametrize(
    "text", ["memfd:block=0", "memfd:huge=1GiB", "uffd:events=exit", "anon:x=1", "segv:fill=page"]
)
def test_wrong_options_are_refused(text: str) -> None:
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    spec = Spec.parse(text)
    with pytest.raises(UsageError) as caught:
        known[spec.name].canonical(spec)
    assert caught.value.remedy
