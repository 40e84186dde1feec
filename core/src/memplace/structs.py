# SPDX-License-Identifier: Apache-2.0
"""Make structs ready to be read before threads read them.

msgspec finds out how a struct is read when the first one is, and threads that are first
together can see it half done: msgspec 0.22 then ends the process with SIGSEGV. A program with a
thread for each kind of object ended so at its start, now and then.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

_T = TypeVar("_T")

# All types that were handed in; what is in them is ready, too.
PREPARED: set[object] = set()


def prepared(type_: type[_T]) -> type[_T]:
    """Have msgspec find out how a type is read, and all that is in it; for a decorator.

    Where the module of a struct is imported there is one thread.
    """
    msgspec.json.Decoder(type_)
    PREPARED.add(type_)
    return type_
