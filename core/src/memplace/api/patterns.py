# SPDX-License-Identifier: Apache-2.0
"""What texts of a spec have to be like, and what to write where one is not: the CRDs' words."""

from __future__ import annotations

# \Z, since Python's $ also matches before a last newline, and the API server's does not.
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
PERMISSIONS = r"^[-r][-w][-x]\Z"

NOT_A_LABEL_KEY = (
    "no label can have such a key: write a name of letters, digits, - _ and ., such as app, "
    "or with a domain before it, such as app.kubernetes.io/name"
)
# A regular expression tells nobody what to write.
ADVICE = {
    LABEL_KEY: NOT_A_LABEL_KEY,
    LABEL_VALUE: (
        "no label can have such a value: write letters, digits, - _ and ., "
        "with a letter or a digit first and last"
    ),
    DNS_LABEL: (
        "write lower-case letters, digits and -, with a letter or a digit first and last, "
        "for example cxl-far"
    ),
    PERMISSIONS: "write the three letters that /proc/PID/maps shows first, such as rw- or r-x",
}
