# SPDX-License-Identifier: Apache-2.0
"""Pods for demonstrations and tests, and a witness of where their bytes are."""
