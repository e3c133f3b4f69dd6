"""Operations on columns that NumPy has no fast word for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def ascending(*parts: Index) -> Index:
    """All values once, in ascending order.

    Sorting beats the hash table that ``numpy.unique`` uses for integers: columns come in a few
    ascending runs, which a stable sort merges.
    """
    values = np.concatenate(parts)
    values.sort(kind="stable")
    if not values.size:
        return values
    new = np.empty(values.size, np.bool_)
    new[0] = True
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return values[new]


def sorted_search(column: Index, values: Index) -> Index:
    """``numpy.searchsorted`` of many values in no order: they are looked up in ascending order,
    so that the column is walked through once."""
    order = np.argsort(values, kind="stable")
    found = np.empty(values.size, np.int64)
    found[order] = np.searchsorted(column, values[order])
    return found


def joined(parts: list[Index]) -> Index:
    """One column out of several; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def slim(column: Index) -> Index:
    """The same column; when all its numbers are equal, without memory for each."""
    if column.size and (column == column[0]).all():
        return np.broadcast_to(column[0], column.shape)
    return column
