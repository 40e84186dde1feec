# SPDX-License-Identifier: Apache-2.0
"""Only what pyproject.toml has no word for: the cffi module."""

from setuptools import setup

setup(cffi_modules=["build_ffi.py:ffibuilder"])
