# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster: its control plane here, its workers in virtual machines."""
