"""The properties that a mechanism can show on a stock kernel, in the order of the matrix."""

from refbench.semantics.properties.accounting import ACCOUNTING
from refbench.semantics.properties.advice import ADVICE
from refbench.semantics.properties.clean import CLEAN
from refbench.semantics.properties.moving import MOVING
from refbench.semantics.properties.reference import REFERENCE
from refbench.semantics.properties.sharing import SHARING
from refbench.semantics.properties.stores import STORES
from refbench.semantics.property import Property

PROPERTIES: dict[str, Property] = {
    item.name: item
    for item in (*CLEAN, *STORES, *SHARING, *ADVICE, *MOVING, *REFERENCE, *ACCOUNTING)
}
"""By name."""

__all__ = ["PROPERTIES"]
