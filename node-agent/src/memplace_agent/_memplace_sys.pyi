# SPDX-License-Identifier: Apache-2.0
"""Types of the cffi module that build_ffi.py describes."""

from typing import Any

class _FFI:
    NULL: Any
    @property
    def errno(self) -> int: ...
    def new(self, cdecl: str, init: Any = ...) -> Any: ...
    def cast(self, cdecl: str, source: Any) -> Any: ...

class _Lib:
    def memplace_process_mbind(
        self, nr: int, pidfd: int, vec: Any, vlen: int, args: Any, usize: int, flags: int
    ) -> int: ...

ffi: _FFI
lib: _Lib
