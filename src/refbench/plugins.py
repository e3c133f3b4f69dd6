"""Finding plugins, one entry point at a time: a broken one is named and stops nothing else.

A plugin is whatever an entry point of the group ``refbench`` names. Each is given a pluggy
manager of its own, so that every error (an import, a misspelt hook, a hook that raises) can be
laid at the door of the plugin that it comes from.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import click
import pluggy

from refbench import hookspecs
from refbench.backend import API_VERSION, Backend
from refbench.errors import UsageError
from refbench.grammar import Spec, suggest
from refbench.words import Case, Mechanism, Workload

T = TypeVar("T")
GROUP = "refbench"
OWN = "refbench"
"""The distribution whose plugins keep their names when another one claims them."""


@dataclass(frozen=True, slots=True)
class PluginFault:
    """What is wrong with one plugin, and what its author or user can do."""

    plugin: str
    distribution: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that plugins add, by name, and what was wrong with some of them."""

    backends: Mapping[str, Backend]
    mechanisms: Mapping[str, Mechanism]
    workloads: Mapping[str, Workload]
    cases: Mapping[str, Case]
    commands: Mapping[str, click.Command]
    faults: tuple[PluginFault, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    """``backend host`` to the plugin that it comes from, and so on."""

    def backend(self, spec: Spec) -> Backend:
        """The backend that a target names.

        :raises UsageError: when there is none of that name.
        """
        return _find(self.backends, spec.name, "backend")

    def mechanism(self, spec: Spec) -> Mechanism:
        """The mechanism that a spec names; errors as for :meth:`backend`."""
        return _find(self.mechanisms, spec.name, "mechanism")

    def workload(self, spec: Spec) -> Workload:
        """The workload that a spec names; errors as for :meth:`backend`."""
        return _find(self.workloads, spec.name, "workload")


def _find(known: Mapping[str, T], name: str, what: str) -> T:
    if name not in known:
        raise UsageError(f"There is no {what} {name!r}.", remedy=suggest(name, known))
    return known[name]


@functools.cache
def registry() -> Registry:
    """The plugins that are installed, loaded once a process.

    ``REFBENCH_DISABLE_PLUGINS`` leaves out the plugins of other distributions: ``1`` or ``all``
    all of them, otherwise those that it names, separated by commas.
    """
    return load(entry_points(group=GROUP), os.environ.get("REFBENCH_DISABLE_PLUGINS", ""))


def load(found: Iterable[EntryPoint], disabled: str = "") -> Registry:
    """Load the plugins behind ``found``; never raises for what a plugin does."""
    off = {name.strip() for name in disabled.split(",") if name.strip()}
    collector = _Collector()
    for entry in sorted(found, key=_precedence):
        foreign = _distribution(entry) != OWN
        if not (foreign and (off & {"1", "all"} or entry.name in off)):
            collector.add(entry)
    return collector.registry()


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _precedence(entry: EntryPoint) -> tuple[bool, str, str]:
    return (_distribution(entry) != OWN, entry.name, _distribution(entry))


def _is_backend(thing: object) -> bool:
    return all(hasattr(thing, name) for name in ("name", "summary", "options", "probe", "open"))


_KINDS: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
    ("backend", "refbench_backends", _is_backend),
    ("mechanism", "refbench_mechanisms", lambda thing: isinstance(thing, Mechanism)),
    ("workload", "refbench_workloads", lambda thing: isinstance(thing, Workload)),
    ("case", "refbench_cases", lambda thing: isinstance(thing, Case)),
    ("command", "refbench_commands", lambda thing: isinstance(thing, click.Command)),
)


@dataclass(slots=True)
class _Claim:
    thing: Any
    entry: EntryPoint


class _Collector:
    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], list[_Claim]] = {}
        self.faults: list[PluginFault] = []

    def fault(self, entry: EntryPoint, message: str, remedy: str) -> None:
        self.faults.append(PluginFault(entry.name, _distribution(entry), message, remedy))

    def add(self, entry: EntryPoint) -> None:
        try:
            plugin = entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.fault(
                entry,
                f"importing {entry.value} raised {type(error).__name__}: {error}",
                "Repair or uninstall the distribution.",
            )
            return
        version = getattr(plugin, "refbench_api_version", None)
        if version != API_VERSION:
            self.fault(
                entry,
                f"it is written for api_version {version}, this refbench has {API_VERSION}",
                f"Install a release of it for api_version {API_VERSION}; a plugin says its "
                f"version as refbench_api_version = {API_VERSION}.",
            )
            return
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(plugin, entry.name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            self.fault(
                entry,
                " ".join(str(error).split()),
                "The hooks and their arguments are in refbench/hookspecs.py.",
            )
            return
        for kind, hook, valid in _KINDS:
            self._call(entry, manager, kind, hook, valid)

    def _call(
        self,
        entry: EntryPoint,
        manager: pluggy.PluginManager,
        kind: str,
        hook: str,
        valid: Callable[[object], bool],
    ) -> None:
        try:
            things = [thing for result in getattr(manager.hook, hook)() for thing in result]
        except Exception as error:
            self.fault(
                entry, f"{hook}() raised {type(error).__name__}: {error}", "Repair the plugin."
            )
            return
        for thing in things:
            name = getattr(thing, "name", None)
            if not isinstance(name, str) or not valid(thing):
                self.fault(
                    entry,
                    f"{hook}() returned {thing!r}, which is not a {kind}",
                    f"Return what refbench/hookspecs.py says for {hook}.",
                )
                continue
            self.claims.setdefault((kind, name), []).append(_Claim(thing, entry))

    def registry(self) -> Registry:
        chosen: dict[str, dict[str, Any]] = {kind: {} for kind, _, _ in _KINDS}
        origins: dict[str, str] = {}
        for (kind, name), claims in sorted(self.claims.items()):
            claim = self._settle(kind, name, claims)
            if claim is not None:
                chosen[kind][name] = claim.thing
                origins[f"{kind} {name}"] = claim.entry.name
        return Registry(
            chosen["backend"],
            chosen["mechanism"],
            chosen["workload"],
            chosen["case"],
            chosen["command"],
            tuple(self.faults),
            origins,
        )

    def _settle(self, kind: str, name: str, claims: list[_Claim]) -> _Claim | None:
        """The one claim that gets the name. A plugin never replaces one of refbench's own, and
        of two plugins neither gets it: results under an ambiguous name would be worthless."""
        if len(claims) == 1:
            return claims[0]
        own = [claim for claim in claims if _distribution(claim.entry) == OWN]
        for claim in claims:
            if claim in own:
                continue
            others = [
                f"{other.entry.name} ({_distribution(other.entry)})"
                for other in claims
                if other is not claim
            ]
            self.fault(
                claim.entry,
                f"the {kind} name {name!r} is also claimed by {', '.join(others)}",
                "Uninstall one of them, or leave one out with REFBENCH_DISABLE_PLUGINS.",
            )
        return own[0] if len(own) == 1 else None
