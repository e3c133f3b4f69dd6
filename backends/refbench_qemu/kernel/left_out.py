"""What is not unpacked of Debian's source: nearly half of its files, and 1 of 1.7 GB.

No configuration of ours compiles these files and no patch of ours touches them. The Kconfig files
and Makefiles among them stay, because kconfig and make read them all.
"""

from __future__ import annotations

_DRIVERS = (
    *("accel", "comedi", "crypto", "gpu", "hwmon", "iio", "infiniband"),
    *("media", "mtd", "scsi", "staging", "usb", "net/*"),
)
_ARCHITECTURES = (
    *("alpha", "arc", "arm", "csky", "loongarch", "m68k", "mips", "nios2"),
    *("parisc", "powerpc", "riscv", "s390", "sh", "sparc", "xtensa"),
)
LEFT_OUT = (
    *(f"*/drivers/{name}/*.[ch]" for name in _DRIVERS),
    *(f"*/arch/{name}/*.[cS]" for name in _ARCHITECTURES),
    "*/Documentation/devicetree/*",
    "*/Documentation/translations/*",
    "*/sound/*.[ch]",
    "*/tools/perf/*",
    "*/tools/testing/selftests/[!m]*/*",
    "*/boot/dts/*.dts",
    "*/boot/dts/*.dtsi",
)
"""Patterns of tar, in which a star stands for slashes too."""
