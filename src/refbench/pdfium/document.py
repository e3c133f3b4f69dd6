"""The document that is rendered: the generated manual from the cache, or the user's own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from refbench.cache import Cache, Material, file_digest
from refbench.errors import UsageError
from refbench.pdfium.library import INSTALL

PUBLISHED = "DDI0487F_b_armv8_arm.pdf"
"""The document of the published experiment, as its letter names it."""
ORIGINALS: Mapping[str, str] = {}
"""SHA-256 of files that are known to be it, and who says so. The letter gives no digest, nor does
any source that we found, and its address no longer serves the file: nothing is known yet."""
VOUCHED = "REFBENCH_PDFIUM_ORIGINAL"
"""The variable with which somebody who has the original gives its SHA-256."""
_NAME = "manual.pdf"
_GENERATOR = ("manual", "layout", "figures", "pictures", "prose")


def document(pdf: str = "", cache: Cache | None = None) -> Path:
    """The user's document, or the generated one where ``pdf`` is empty.

    :raises UsageError: when it is no file, or when what writes the generated one is missing.
    :raises StorageError: when the cache cannot be written.
    """
    if not pdf:
        return generated(cache)
    path = Path(pdf).expanduser().absolute()
    if not path.is_file():
        raise UsageError(
            f"The document {pdf} is not a file.", remedy="Give the path of a PDF with pdf=PATH."
        )
    return path


def generated(cache: Cache | None = None) -> Path:
    """The manual of 120 pages, written now if the cache does not have it.

    :raises UsageError: when reportlab or the fonts are not installed.
    :raises StorageError: when the cache cannot be written.
    """
    if importlib.util.find_spec("reportlab") is None:
        raise UsageError(
            "The document of the workload pdfium is written with the package reportlab, which is "
            "not installed.",
            remedy=f"Install it: {INSTALL}. Or give a document of your own with pdf=PATH.",
        )
    return (cache or Cache.default()).get("document", _material(), _write) / _NAME


def verdict(path: Path) -> Literal["reproduced", "re-enacted"]:
    """What an experiment with this document is: ``reproduced`` only with the original."""
    digest = file_digest(path).hex()
    known = digest in ORIGINALS or digest == os.environ.get(VOUCHED, "").strip().lower()
    return "reproduced" if known else "re-enacted"


def _write(directory: Path) -> None:
    from refbench.pdfium import manual

    manual.write(directory / _NAME)


def _material() -> list[Material]:
    """Everything that the document's bytes follow from."""
    from refbench.pdfium.layout import font_files

    return [
        *(Path(__file__).with_name(f"{name}.py") for name in _GENERATOR),
        *font_files(),
        importlib.metadata.version("reportlab"),
        f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
    ]
