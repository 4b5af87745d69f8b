# SPDX-License-Identifier: Apache-2.0
"""Ways around the policy, one test each: refused, recorded, and nothing on the wire."""
