"""The compiled part; all else of the package is described in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Without a compiler it is left out, and Python does the same.
        Extension(
            "watchkeep.streams._wire", ["streams/_wire.c"], py_limited_api=True, optional=True
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
