# SPDX-License-Identifier: Apache-2.0
"""Ways to act on processes; a node has the best one that it can have.

An `Inject` backend, which has a process call mbind(2) itself, would come between ProcessMbind
and MovePages: it has all of their capabilities but defaults for mappings to come.
"""
