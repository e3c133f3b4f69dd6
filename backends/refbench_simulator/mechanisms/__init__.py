"""The models of refbench's own mechanisms, one file each, as ``native/mechanisms/`` has them."""

from __future__ import annotations

from refbench_simulator.mechanism import Model
from refbench_simulator.mechanisms.anon import Anon
from refbench_simulator.mechanisms.ksm import Ksm
from refbench_simulator.mechanisms.memfd import Memfd
from refbench_simulator.mechanisms.memfd_full import MemfdFull
from refbench_simulator.mechanisms.memset import Memset
from refbench_simulator.mechanisms.memset_malloc import MemsetMalloc
from refbench_simulator.mechanisms.refpage import Refpage
from refbench_simulator.mechanisms.refpage_dev import RefpageDev
from refbench_simulator.mechanisms.refpage_mmap import RefpageMmap
from refbench_simulator.mechanisms.segv import Segv
from refbench_simulator.mechanisms.uffd import Uffd
from refbench_simulator.mechanisms.uffd_sigbus import UffdSigbus

MODELS: dict[str, type[Model]] = {
    "anon": Anon,
    "memset": Memset,
    "memset-malloc": MemsetMalloc,
    "memfd": Memfd,
    "memfd-full": MemfdFull,
    "uffd": Uffd,
    "uffd-sigbus": UffdSigbus,
    "segv": Segv,
    "ksm": Ksm,
    "refpage": Refpage,
    "refpage-mmap": RefpageMmap,
    "refpage-dev": RefpageDev,
}
"""By the name of the mechanism."""
