# SPDX-License-Identifier: Apache-2.0
"""Socket calls that try to reach what the outbound door refuses."""

import ctypes
import os
import socket
import struct
import threading
import time

from harness import namespaces
from harness.lab import wait_until

from . import calls
from .case import ALLOWED, EvasionTest, family_of

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
MSG_MORE, MSG_FASTOPEN, TCP_FASTOPEN_CONNECT = 0x8000, 0x20000000, 30
IP_PKTINFO, IP_FREEBIND, IP_TRANSPARENT, IP_UNICAST_IF, IPV6_UNICAST_IF, IPV6_FREEBIND = 8, 15, 19, 50, 76, 78
TCP_REPAIR = 19
IPPROTO_MPTCP = 262


def connect(address, port, kind=TCP, prepare=None, protocol=0):
    with socket.socket(family_of(address), kind, protocol) as opened:
        opened.settimeout(2)
        if prepare:
            prepare(opened)
        opened.connect((address, port))


def mptcp_is_here():
    try:
        socket.socket(socket.AF_INET6, TCP, IPPROTO_MPTCP).close()
        return True
    except OSError:
        return False


class Sockets(EvasionTest):
    def setUp(self):
        super().setUp()
        self.hear(self.peer, TCP, self.port)
        self.hear(self.peer, UDP, self.port)

    def check(self, protocol="tcp", **record):
        record = self.recorded_outbound(protocol, **record)
        self.nothing_arrived()
        return record

    def test_mapped_address(self):
        mapped = f"::ffff:{self.peer.ip4}"
        for kind, protocol in ((TCP, "tcp"), (UDP, "udp")):
            self.permitted(connect, mapped, ALLOWED, kind)
            self.refused(connect, mapped, self.port, kind)
            self.check(protocol)

    def test_ipv4_address_on_an_ipv6_socket(self):
        """connect(2) and sendto(2) of an AF_INET6 datagram socket take an AF_INET address."""
        def attack(port, send):
            with socket.socket(socket.AF_INET6, UDP) as opened:
                name = calls.sockaddr(self.peer.ip4, port)
                if send:
                    calls.checked(calls.libc.sendto(opened.fileno(), self.mark, 16, 0, name, len(name)))
                else:
                    calls.connect(opened, name)
        for send in (False, True):
            self.permitted(attack, ALLOWED, send)
        self.wire.clear()
        for send in (False, True):
            self.refused(attack, self.port, send)
        self.check("udp")

    def test_connect_after_af_unspec(self):
        for kind, protocol in ((TCP, "tcp"), (UDP, "udp")):
            def attack():
                with socket.socket(socket.AF_INET, kind) as opened:
                    opened.connect((self.peer.ip4, ALLOWED))
                    calls.disconnect(opened)
                    opened.connect((self.peer.ip4, self.port))
            self.refused(attack)
            self.wire.wait(port=ALLOWED) if kind == TCP else None
            self.check(protocol)

    def test_sendto_on_a_connected_socket(self):
        for address in (self.peer.ip4, self.peer.ip6):
            def attack(port):
                with socket.socket(family_of(address), UDP) as opened:
                    opened.connect((address, ALLOWED))
                    opened.sendto(self.mark, (address, port))
            self.permitted(attack, ALLOWED)
            self.wire.wait(content=self.mark)
            self.wire.clear()
            self.refused(attack, self.port)
            self.check("udp", ip=address)

    def test_sendmmsg_with_mixed_targets(self):
        def attack():
            allowed, denied = (calls.sockaddr(self.peer.ip4, port) for port in (ALLOWED, self.port))
            with socket.socket(socket.AF_INET, UDP) as opened:
                sent = calls.sendmmsg(opened, [(b"first", allowed), (self.mark, denied), (b"third", allowed)])
                assert sent == 1, sent
                calls.sendmmsg(opened, [(self.mark, denied), (b"third", allowed)])
        self.refused(attack)
        self.wire.wait(port=ALLOWED, content=b"first")
        self.check("udp")

    def test_corked_datagram_that_changes_its_target(self):
        """What is appended to a pending datagram goes where the first part went, whatever address it carries."""
        def attack(first, second):
            with socket.socket(socket.AF_INET, UDP) as opened:
                opened.sendto(b"begin", MSG_MORE, (self.peer.ip4, first))
                opened.sendto(self.mark, (self.peer.ip4, second))
        self.permitted(attack, ALLOWED, self.port)
        self.wire.wait(port=ALLOWED, content=self.mark)
        self.assertEqual(self.wire.matching(port=self.port), [])
        self.wire.clear()
        self.refused(attack, self.port, ALLOWED)
        self.check("udp")

    def test_tcp_fast_open(self):
        self.attacker.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=5", daemon=True).check()  # data without a cookie
        for address in (self.peer.ip4, self.peer.ip6):
            def attack(port, deferred):
                with socket.socket(family_of(address), TCP) as opened:
                    opened.settimeout(2)
                    if deferred:
                        opened.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
                        opened.connect((address, port))
                        opened.send(self.mark)
                    else:
                        opened.sendto(self.mark, MSG_FASTOPEN, (address, port))
            for deferred in (False, True):
                self.permitted(attack, ALLOWED, deferred)
                self.assertTrue(self.wire.wait(content=self.mark)[0].flags & 2, "data in the SYN")
                self.wire.clear()
                self.refused(attack, self.port, deferred)
                self.check(ip=address)

    def test_mptcp_first_subflow(self):
        def attack(port):
            connect(self.peer.ip4, port, protocol=IPPROTO_MPTCP)
        self.permitted(attack, ALLOWED)
        self.refused(attack, self.port)
        self.check()

    def test_mptcp_subflow_to_an_announced_address(self):
        """The peer of an allowed connection announces an address that is not; the kernel itself connects there."""
        second = "10.77.0.51"
        namespaces.batch(self.peer.netns, [f"addr add {second}/24 dev eth0"])
        self.addCleanup(namespaces.batch, self.peer.netns, [f"addr del {second}/24 dev eth0"])
        for host in (self.peer, self.attacker):
            host.run("ip", "mptcp", "limits", "set", "add_addr_accepted", "4", "subflows", "4", daemon=True).check()
        self.peer.run("ip", "mptcp", "endpoint", "add", second, "dev", "eth0", "id", "9", "signal", daemon=True).check()
        self.addCleanup(lambda: self.peer.run("ip", "mptcp", "endpoint", "flush", daemon=True))
        self.hear(self.peer, TCP, 7001, self.peer.ip4, IPPROTO_MPTCP)

        def attack():
            with socket.socket(socket.AF_INET, TCP, IPPROTO_MPTCP) as opened:
                opened.settimeout(2)
                opened.connect((self.peer.ip4, 7001))
                opened.send(b"hello")  # the first data completes the handshake
                time.sleep(0.3)
        self.permitted(attack)
        self.recorded_outbound(ip=second, port=7001, process=False)
        self.nothing_arrived(target=second)

    def test_io_uring(self):
        try:
            self.attacker.call(lambda: calls.Ring() and None)
        except OSError as error:
            self.skipTest(f"io_uring is not to be had here: {error}")
        for polled, flags in ((False, 0), (False, calls.Ring.ASYNC), (True, 0)):
            def attack(port, how):
                ring = calls.Ring(polled)
                name = calls.sockaddr(self.peer.ip4, port)
                with socket.socket(socket.AF_INET, TCP if how == "connect" else UDP) as opened:
                    if how == "connect":
                        ring.connect(opened, name, flags)
                    else:
                        ring.send(opened, self.mark, name, flags)
            for how, protocol in (("connect", "tcp"), ("send", "udp")):
                with self.subTest(polled=polled, flags=flags, how=how):
                    self.permitted(attack, ALLOWED, how)
                    self.wire.wait(port=ALLOWED)
                    self.wire.clear()
                    self.refused(attack, self.port, how)
                    self.check(protocol)
            self.port += 100  # a record for each way

    def test_32_bit_system_calls(self):
        if not calls.Compat.available():
            self.skipTest("no 32-bit system calls here")

        def attack(port):
            with socket.socket(socket.AF_INET, TCP) as opened:
                calls.Compat().connect(opened, calls.sockaddr(self.peer.ip4, port))
        self.permitted(attack, ALLOWED)
        self.refused(attack, self.port)
        self.check()

    def test_address_that_changes_while_it_is_read(self):
        """Two threads: one connects, the other rewrites the address in between (time of check, time of use)."""
        def attack():
            buffer = ctypes.create_string_buffer(calls.sockaddr(self.peer.ip4, ALLOWED), 16)
            stop = time.monotonic() + 1

            def flip():
                while time.monotonic() < stop:
                    struct.pack_into("!H", buffer, 2, self.port)
                    struct.pack_into("!H", buffer, 2, ALLOWED)
            threading.Thread(target=flip, daemon=True).start()
            outcomes = set()
            while time.monotonic() < stop:
                with socket.socket(socket.AF_INET, UDP) as opened:
                    outcomes.add(calls.libc.sendto(opened.fileno(), self.mark, 16, 0, buffer, 16))
            return outcomes
        self.assertEqual(self.attacker.call(attack), {16, -1}, "both were tried")
        self.recorded_outbound("udp")
        self.assertEqual(self.wire.matching(port=self.port), [])

    def test_source_port_of_a_failsafe(self):
        for source in (22, 53, 67, 68, 123, 546):
            for kind in (TCP, UDP):
                self.refused(connect, self.peer.ip4, self.port, kind, lambda opened, source=source: (
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), opened.bind(("", source))))
        self.permitted(connect, self.peer.ip4, ALLOWED, UDP, lambda opened: opened.bind(("", 123)))
        for protocol in ("tcp", "udp"):
            self.check(protocol)

    def test_bound_to_an_interface(self):
        for interface in ("eth0", "lo"):
            for address in (self.peer.ip4, self.peer.ip6):
                self.refused(connect, address, self.port, TCP, lambda opened: opened.setsockopt(
                    socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode()))
                self.check(ip=address)
        self.permitted(connect, self.peer.ip4, ALLOWED, TCP, lambda opened: opened.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0"))

    def test_loopback_by_the_wire(self):
        """What is bound to an interface leaves by it, also to 127.0.0.1; a helper on the link says that this is his."""
        with namespaces.inside(self.attacker.netns):
            index = socket.if_nametoindex("eth0")
        own = {"127.0.0.1": self.attacker.ip4, "::1": self.attacker.ip6}

        def by_the_wire(address, steps):
            with socket.socket(family_of(address), UDP) as opened:
                for step in steps:
                    if step == "device":
                        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                    elif step == "interface":
                        opened.setsockopt(socket.SOL_IP, IP_UNICAST_IF, struct.pack("!I", index))
                    elif step == "address":
                        opened.bind((own[address], 0))
                    elif step == "connect":
                        opened.connect((address, self.port))
                    elif step == "send":
                        opened.send(self.mark)
                    else:
                        opened.sendto(self.mark, (address, self.port))

        namespaces.batch(self.attacker.netns, [f"neigh replace {address} lladdr {self.wire.mac} dev eth0 nud permanent"
                                               for address in own] + [f"route add default via {self.peer.ip6} dev eth0"])
        self.addCleanup(namespaces.batch, self.attacker.netns, ["route del default via " + self.peer.ip6 + " dev eth0"])
        past_the_door = {"127.0.0.1": (("address", "connect", "device", "send"), ("interface", "sendto")),
                         "::1": (("address", "connect", "device", "send"),)}
        for address in own:
            with self.subTest(address=address):
                self.next_attempt()
                self.permitted(by_the_wire, address, ("connect", "sendto"), user="nobody")
                for steps in (("device", "sendto"), ("device", "connect")):
                    self.refused(by_the_wire, address, steps, user="nobody")
                    self.recorded_outbound("udp", ip=address)
                for steps in past_the_door[address]:
                    self.next_attempt()
                    self.permitted(by_the_wire, address, steps, user="nobody")  # the guard tells nobody
                    self.recorded_outbound("udp", ip=address, process=False)
                    self.nothing_arrived(target=address)

    def test_an_own_address_by_the_wire(self):
        """Another interface's address is the host's own, unless the sender says by which interface it is to leave."""
        own = {"10.79.0.1": "10.79.0.1/24", "fd79::1": "fd79::1/64"}
        namespaces.batch(self.attacker.netns, ["link add br9 type bridge", "link set br9 up"] + [
            f"addr add {network} dev br9 nodad" for network in own.values()] + [
            f"neigh replace {address} lladdr {self.wire.mac} dev eth0 nud permanent" for address in own] + [
            f"route add fd79::/64 via {self.peer.ip6} dev eth0 metric 4096"])
        self.addCleanup(namespaces.batch, self.attacker.netns, ["link del br9", "route del fd79::/64 dev eth0"] + [
            f"neigh del {address} dev eth0" for address in own])
        with namespaces.inside(self.attacker.netns):
            index = socket.if_nametoindex("eth0")

        def named_for_one_datagram(address):
            with socket.socket(family_of(address), UDP) as opened:
                if family_of(address) == socket.AF_INET:
                    info = (socket.SOL_IP, IP_PKTINFO, struct.pack("=i8x", index))
                else:
                    info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16xi", index))
                opened.sendmsg([self.mark], [info], 0, (address, self.port))

        def named_for_the_socket(address):
            with socket.socket(family_of(address), UDP) as opened:
                level, option = ((socket.SOL_IP, IP_UNICAST_IF) if family_of(address) == socket.AF_INET else
                                 (socket.IPPROTO_IPV6, IPV6_UNICAST_IF))
                opened.setsockopt(level, option, struct.pack("!I", index))
                opened.sendto(self.mark, (address, self.port))

        def on_a_connection_that_stands(address):
            with socket.socket(family_of(address)) as server, socket.socket(family_of(address)) as opened:
                server.bind((address, self.port))
                server.listen()
                opened.connect((address, self.port))
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                opened.send(self.mark)
                time.sleep(0.3)

        def here(address):
            connect(address, 9, UDP)

        for address in own:
            wait_until(lambda: self.attempt(here, address) == "", 5, "the agent knows the address", 0.1)
            for attack, protocol in ((named_for_one_datagram, "udp"), (named_for_the_socket, "udp"),
                                     (on_a_connection_that_stands, "tcp")):
                with self.subTest(address=address, attack=attack.__name__):
                    self.next_attempt()
                    self.attempt(attack, address, user="nobody")
                    self.recorded(protocol=protocol, direction="outbound", dst__ip=address, dst__port=self.port)
                    self.nothing_arrived(target=address)

    def test_transparent_and_free_bind(self):
        """A source that is not this host's does not change who is asked for."""
        for option in (IP_TRANSPARENT, IP_FREEBIND):
            def prepare(opened):
                opened.setsockopt(socket.SOL_IP, option, 1)
                opened.bind(("10.77.0.99", 0))
            self.refused(connect, self.peer.ip4, self.port, TCP, prepare)
            self.refused(connect, self.peer.ip4, self.port, UDP, prepare)
        for protocol in ("tcp", "udp"):
            self.check(protocol)

    def test_a_source_that_is_not_ones_own(self):
        """IPV6_FREEBIND lets any user bind to any address, and IPv6 asks nothing when it sends."""
        def bound(source, kind, protocol=0):
            opened = socket.socket(socket.AF_INET6, kind, protocol)
            opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            opened.bind((source, 0))
            return opened

        def unconnected(source):
            with bound(source, UDP) as opened:
                opened.sendto(self.mark, (self.peer.ip6, ALLOWED))

        def connected(source):
            with bound(source, UDP) as opened:
                opened.connect((self.peer.ip6, ALLOWED))
                opened.send(self.mark)

        def named_for_one_datagram(source):
            with bound("::", UDP) as opened:
                opened.connect((self.peer.ip6, ALLOWED))
                info = socket.inet_pton(socket.AF_INET6, source) + bytes(4)
                opened.sendmsg([self.mark], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)])

        def with_data_in_the_syn(source):
            with bound(source, TCP) as opened:
                opened.setblocking(False)
                try:
                    opened.sendto(self.mark, MSG_FASTOPEN, (self.peer.ip6, ALLOWED))
                except BlockingIOError:
                    time.sleep(0.1)  # for the answer that does not come

        def first_subflow(source):
            with bound(source, TCP, IPPROTO_MPTCP) as opened:
                opened.setblocking(False)
                try:
                    opened.connect((self.peer.ip6, ALLOWED))
                except BlockingIOError:
                    time.sleep(0.1)

        attacks = [(unconnected, "udp"), (connected, "udp"), (named_for_one_datagram, "udp"),
                   (with_data_in_the_syn, "tcp")]
        if mptcp_is_here():
            attacks.append((first_subflow, "tcp"))
        for attack, protocol in attacks:
            with self.subTest(attack=attack.__name__):
                self.next_attempt()
                self.permitted(attack, self.attacker.ip6, user="nobody")
                self.wire.wait(source=self.attacker.ip6, port=ALLOWED)
                self.next_attempt()
                self.attempt(attack, "fd77::66", user="nobody")
                self.recorded(protocol=protocol, direction="outbound", src__ip="fd77::66", dst__ip=self.peer.ip6,
                              reason="malformed")
                self.nothing_arrived(source="fd77::66")

    def test_tcp_repair(self):
        """A socket in repair mode becomes established by connect(2) alone, without a handshake."""
        def attack(port):
            with socket.socket(socket.AF_INET, TCP) as opened:
                opened.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
                opened.bind((self.attacker.ip4, 0))
                opened.connect((self.peer.ip4, port))
                opened.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)  # probes the peer's window
        self.permitted(attack, ALLOWED)
        self.wire.wait(port=ALLOWED)
        self.refused(attack, self.port)
        self.check()

    def test_link_local_scope(self):
        """The peer by its link-local address, which no rule names, with the scope in the address or by interface."""
        link = self.link_local(self.peer)

        def attack(kind):
            with socket.socket(socket.AF_INET6, kind) as opened:
                opened.settimeout(1)
                opened.connect((link, self.port, 0, socket.if_nametoindex("eth0")))
                opened.send(self.mark)

        def bound():
            with socket.socket(socket.AF_INET6, UDP) as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                opened.sendto(self.mark, (link, self.port))
        for kind, protocol in ((TCP, "tcp"), (UDP, "udp")):
            self.refused(attack, kind)
            self.check(protocol, ip=link)
        self.refused(bound)
        self.nothing_arrived()

    @staticmethod
    def link_local(host):
        lines = host.run("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link", daemon=True).check().stdout
        return lines.split()[3].split("/")[0]

    def test_multicast_and_broadcast(self):
        targets = ["224.0.0.1", "239.1.2.3", "10.77.0.255", "255.255.255.255", "ff02::1"]
        for target in targets:
            def attack(connected):
                with socket.socket(family_of(target), UDP) as opened:
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                    if connected:
                        opened.connect((target, self.port))
                        opened.send(self.mark)
                    else:
                        opened.sendto(self.mark, (target, self.port))
            for connected in (False, True):
                self.refused(attack, connected)
            self.check("udp", ip=target)
