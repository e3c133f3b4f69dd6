"""Which model stands for which mechanism: refbench's own, and those that plugins bring."""

from __future__ import annotations

import importlib

from refbench.errors import CellError, Crashed, Unsupported, UsageError
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.words import Availability, Mechanism
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Model
from refbench_simulator.mechanisms import MODELS


def model_of(mechanism: Mechanism) -> type[Model]:
    """The model of a registered mechanism.

    :raises Unsupported: when there is none, or it cannot be loaded.
    """
    if mechanism.name in MODELS and not mechanism.model:
        return MODELS[mechanism.name]
    if not mechanism.model:
        raise Unsupported(
            f"There is no model of the mechanism {mechanism.name}.",
            remedy="Whoever wrote it can add one: docs/simulator.md.",
        )
    module, _, name = mechanism.model.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise Unsupported(
            f"The model {mechanism.model} of {mechanism.name} cannot be loaded: "
            f"{type(error).__name__}: {error}.",
            remedy="Name it as package.module:Class, and see that the module can be imported.",
        ) from None
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise Unsupported(
            f"The model {mechanism.model} of {mechanism.name} is no Model.",
            remedy="Derive it from refbench_simulator.mechanism.Model.",
        )
    return found


def fault(spec: Spec, error: Exception) -> CellError:
    """What a cell fails with when a plugin's model has a fault.

    :raises Exception: ``error`` itself where the model is refbench's own.
    """
    mechanism = registry().mechanism(spec)
    if isinstance(error, UsageError):
        return _Usage(error.message, remedy=error.remedy)
    if not mechanism.model:
        raise error
    return Crashed(
        f"The model {mechanism.model} of {mechanism.name} raised {type(error).__name__}: {error}.",
        remedy=f"Mend it; the plugin is {registry().origins[f'mechanism {mechanism.name}']}.",
    )


class _Usage(CellError):
    """Options that a mechanism cannot have together: its C file says so when it is set up."""

    kind = "usage"


def availability(mechanism: Mechanism, kernel: Kernel) -> Availability:
    """Whether a mechanism can be modelled on this kernel."""
    try:
        return model_of(mechanism).availability(kernel)
    except Unsupported as error:
        return Availability(False, error.message, error.remedy)
