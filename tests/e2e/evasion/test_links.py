# SPDX-License-Identifier: Apache-2.0
"""What must not be taken for an evasion: links that look odd and are not."""

import socket
import time

from harness import namespaces
from harness.lab import wait_until

from . import packets
from .case import ALLOWED, EvasionTest, POLICY


class Links(EvasionTest):
    POLICY = POLICY + "  - {id: ping, to: {cidr: PEER4/32}, service: [icmp/8]}\n"

    def test_a_router_with_a_link_local_address_that_is_ours_elsewhere(self):
        """Routers and bridges of this host like fe80::1. Refusing the router's advertisements would end IPv6."""
        far = "2001:db8:5::5"
        namespaces.batch(self.peer.netns, ["addr add fe80::1/64 dev eth0 nodad", f"addr add {far}/128 dev eth0 nodad"])
        namespaces.batch(self.attacker.netns, ["link add d0 type bridge", "link set d0 up",
                                               "addr add fe80::1/64 dev d0 nodad",
                                               "route add 2001:db8:5::/64 via fe80::1 dev eth0"])
        self.addCleanup(namespaces.batch, self.attacker.netns, ["route del 2001:db8:5::/64", "link del d0"])
        self.attacker.run("ip", "-6", "neigh", "flush", "dev", "eth0", daemon=True)

        def reach():
            socket.create_connection((far, ALLOWED), 2).close()

        def reached():
            try:
                self.attacker.call(reach, daemon=True)  # out of the agent's cgroup: only the guard could be in the way
                return True
            except OSError:
                return False
        wait_until(reached, 8, "the router's advertisement")

    def test_a_ping_from_a_macvlan_in_another_namespace(self):
        inner = self.attacker.netns + "-mac"
        namespaces.add(inner)
        self.addCleanup(namespaces.delete, inner)
        try:
            namespaces.batch(self.attacker.netns, ["link add mv0 link eth0 type macvlan mode bridge",
                                                   f"link set mv0 netns {inner}"])
        except Exception as error:  # noqa: BLE001 - ip(8) says that there is no such type
            self.skipTest(f"no macvlan here: {error}")
        namespaces.batch(inner, ["addr add 10.77.0.88/24 dev mv0", "link set mv0 up"])

        def ping():
            namespaces.enter(inner)
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as opened:
                for _ in range(30):  # the agent sees the namespace when a process is in it
                    opened.sendto(packets.icmp(8, self.mark), (self.peer.ip4, 0))
                    time.sleep(0.1)
        self.attempt(ping)
        self.wire.wait(content=self.mark, source="10.77.0.88")
