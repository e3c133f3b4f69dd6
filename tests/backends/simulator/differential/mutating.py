"""What a mutation is, and how one is put in the place of a part of the model for a while."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

Function = Callable[..., Any]
Target = tuple[object, str]
"""A module, a class or a table of functions, and the name of one in it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A deliberate fault."""

    name: str
    about: str
    """What the model does wrong with it."""
    body: Function
    """What runs instead; gets the original function before its arguments."""
    targets: tuple[Target, ...]

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Put it into the model until ``patch`` is undone."""
        for owner, name in self.targets:
            _put(patch, owner, name, self.body)


class Collection(list[Mutation]):
    """Mutations, added by a decorator of their bodies."""

    def fault(self, name: str, about: str, *targets: Target) -> Callable[[Function], Function]:
        """Decorates the body of a mutation of all ``targets``."""

        def add(body: Function) -> Function:
            self.append(Mutation(name, about, body, targets))
            return body

        return add


def nothing(original: Function, *given: object, **named: object) -> None:
    """The body of a fault that leaves something out."""


def reached(patch: pytest.MonkeyPatch, mutations: Iterable[Mutation]) -> set[str]:
    """Watches the targets of all ``mutations`` until ``patch`` is undone: the set fills with the
    names of those that a program reaches, and that could therefore make a difference to it."""
    found: set[str] = set()
    for mutation in mutations:
        watching = replace(mutation, body=_noting(found, mutation.name))
        watching.apply(patch)
    return found


def _noting(found: set[str], name: str) -> Function:
    def body(original: Function, *given: object, **named: object) -> object:
        found.add(name)
        return original(*given, **named)

    return body


def _put(patch: pytest.MonkeyPatch, owner: object, name: str, body: Function) -> None:
    if isinstance(owner, dict):
        patch.setitem(owner, name, _around(owner[name], body))
        return
    static = inspect.getattr_static(owner, name)
    if isinstance(static, property):
        assert static.fget is not None
        patch.setattr(owner, name, property(_around(static.fget, body)))
        return
    original = getattr(owner, name)
    changed = _around(original, body)
    patch.setattr(owner, name, changed)
    # Other modules of the model have imported it by name.
    for module in [m for n, m in sys.modules.items() if n.startswith("refbench_simulator")]:
        if vars(module).get(name) is original:
            patch.setattr(module, name, changed)


def _around(original: Function, body: Function) -> Function:
    def changed(*given: object, **named: object) -> object:
        return body(original, *given, **named)

    return changed
