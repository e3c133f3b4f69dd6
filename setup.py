"""The compiled half of refbench.native. Everything else about the package is in pyproject.toml.

Both extensions are optional: where they cannot be compiled (no compiler, no Linux), the
installation goes on, and ``refbench.native`` says what is missing when it is used.
"""

from setuptools import Extension, setup

setup(
    cffi_modules=["src/refbench/native/cffi_build.py:ffibuilder"],
    ext_modules=[
        Extension(
            "refbench.native._exporter",
            ["src/refbench/native/exporter.c"],
            # The first version whose stable ABI has the buffer protocol.
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=["-std=c11"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
