"""Which model stands for which mechanism: refbench's own, and those that plugins bring."""

from __future__ import annotations

import importlib

from refbench.errors import Unsupported
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
    except (ImportError, AttributeError, ValueError) as error:
        raise Unsupported(
            f"The model {mechanism.model} of {mechanism.name} cannot be loaded: {error}.",
            remedy="Name it as package.module:Class.",
        ) from None
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise Unsupported(
            f"The model {mechanism.model} of {mechanism.name} is no Model.",
            remedy="Derive it from refbench_simulator.mechanism.Model.",
        )
    return found


def availability(mechanism: Mechanism, kernel: Kernel) -> Availability:
    """Whether a mechanism can be modelled on this kernel."""
    try:
        return model_of(mechanism).availability(kernel)
    except Unsupported as error:
        return Availability(False, error.message, error.remedy)
