# SPDX-License-Identifier: Apache-2.0
"""What the kinds have in common: names of the version, texts and numbers with their bounds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from memplace.api.patterns import DNS_LABEL, LABEL_KEY, LABEL_VALUE, PERMISSIONS

GROUP = "memplace.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# In status, the name of the tier of bytes on NUMA nodes that belong to no tier.
OTHER_TIER = "other"

DnsLabel = Annotated[str, Meta(min_length=1, max_length=63, pattern=DNS_LABEL)]
NodeName = Annotated[str, Meta(min_length=1, max_length=253)]
LabelKey = Annotated[str, Meta(min_length=1, max_length=317, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=LABEL_VALUE)]
Glob = Annotated[str, Meta(min_length=1, max_length=253)]
PathGlob = Annotated[str, Meta(min_length=1, max_length=1024)]
Permissions = Annotated[str, Meta(max_length=16, pattern=PERMISSIONS)]
# Kubernetes Quantities may be numbers in YAML, too.
Size = Annotated[str, Meta(min_length=1, max_length=32)] | int
NodeLabels = Annotated[dict[str, LabelValue], Meta(max_length=16)]
NumaId = Annotated[int, Meta(ge=0, le=1023)]
Percent = Annotated[str, Meta(max_length=8)]
PauseSeconds = Annotated[int, Meta(ge=0, le=86_400)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]


class SpecPart(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A part of a spec: unknown fields are refused, absent ones stay absent."""


def as_text(part: SpecPart, *names: str) -> None:
    """Turn fields that may be numbers into text, of a struct that is just being made."""
    for name in names:
        value = getattr(part, name)
        if isinstance(value, int):
            msgspec.structs.force_setattr(part, name, str(value))


class StatusPart(Struct, frozen=True, rename="camel", kw_only=True):
    """A part of a status: unknown fields are ignored, zeros are written."""
