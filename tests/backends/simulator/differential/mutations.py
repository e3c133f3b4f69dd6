"""Every deliberate fault. One that no counter can show is none: copying an exclusive page where
the kernel reuses it costs time, and changes no count."""

from __future__ import annotations

from tests.backends.simulator.differential.mutating import Mutation
from tests.backends.simulator.differential.mutations_mechanisms import MECHANISMS
from tests.backends.simulator.differential.mutations_pages import PAGES
from tests.backends.simulator.differential.mutations_spaces import SPACES

MUTATIONS: tuple[Mutation, ...] = (*PAGES, *SPACES, *MECHANISMS)
