# SPDX-License-Identifier: Apache-2.0
"""Several hosts on one machine: network namespaces, cgroups and the real programs of this repository.

A Lab is one test's private world. Nothing of it touches the namespace or the root cgroup of the machine.
"""
