# SPDX-License-Identifier: Apache-2.0
"""Root of a container on the host's link sends elsewhere what was let pass, and for longer than it is allowed."""

import socket
import time

from harness import namespaces
from harness.lab import PROBE, PYTHON, Probe, wait_until

from . import packets
from .case import ALLOWED, POLICY
from .inner import DENIED4, NOBODY4, SECOND4, InnerTest

THIRD4 = "10.77.0.89"
SERVED, KEPT, CUT = 7010, 7001, 7002


def to_interface(opened):
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"mv0")


class GivenElsewhere(InnerTest):
    POLICY = POLICY + f"  - {{id: served, from: {{cidr: PEER4/32}}, service: [tcp/{SERVED}]}}\n"
    AGENT = {"management": ["10.77.0.50/32"]}  # the peer: what looks like its ssh to this host is a failsafe's

    def setUp(self):
        super().setUp()
        self.macvlan()
        self.peer_has_denied()

    def test_a_connection_to_oneself_that_is_given_to_an_interface(self):
        self.own()
        self.inside(self.give_connection_away, to_interface)
        self.told_and_stopped("tcp")

    def lost_as_a_copy(self, protocol, payload, address=None, source=SECOND4):
        address = address or self.peer.ip4
        self.inside(self.send_raw, packets.ipv4(source, address, protocol, payload), address)
        self.recorded(src__ip=source, dst__ip=address)
        self.nothing_arrived(source=source, protocol=protocol)

    def test_a_copy_that_says_it_is_of_igmp(self):
        """Which goes to groups, and through no router."""
        self.copy_what_is_sent(self.peer.ip4)
        self.lost_as_a_copy(socket.IPPROTO_IGMP, b"\x16\0\0\0" + self.mark)

    def test_a_copy_that_looks_like_the_failsafes_answer(self):
        self.become_known()
        self.copy_what_is_sent(self.peer.ip4)
        for source in (SECOND4, NOBODY4):
            with self.subTest(source):
                self.next_attempt()
                data = packets.tcp(source, self.peer.ip4, 22, self.port, packets.ACK, self.mark)
                self.lost_as_a_copy(6, data, source=source)

    def exchange(self):
        packets_of_it = self.allowed_exchange(SECOND4)
        self.assertEqual(self.inside(self.send_raw, packets_of_it["begins"], self.peer.ip4), "")
        self.wire.wait(source=SECOND4, port=ALLOWED, content=b"allowed")
        return packets_of_it

    def test_a_copy_of_an_error_for_somebody_else(self):
        """Errors are for who sent what they quote, and carry more than that."""
        quotes = self.exchange()
        self.copy_what_is_sent(DENIED4)
        for name, quoted in quotes.items():
            with self.subTest(name):
                self.next_attempt()
                self.lost_as_a_copy(1, packets.icmp(3, quoted + self.mark, 1), DENIED4)

    def test_a_copy_of_an_error_for_who_sent_what_it_quotes(self):
        quoted = self.exchange()["answers"]
        self.copy_what_is_sent(self.peer.ip4)
        self.inside(self.send_raw, packets.ipv4(SECOND4, self.peer.ip4, 1, packets.icmp(3, quoted, 3)), self.peer.ip4)
        self.wire.wait(source=SECOND4, protocol=1)

    def call_in(self, source):
        """From the peer's side, at a server in the container that sends back what it hears."""
        server = self.start_within(PYTHON, PROBE, "serve", "tcp", "0.0.0.0", SERVED)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertIn("ready", server.stdout.readline())
        namespaces.batch(self.peer.netns, ["neigh flush dev eth0"])  # another test's interface had the address
        with namespaces.inside(self.peer.netns):
            opened = socket.create_connection((SECOND4, SERVED), 3, (source, 0))
        self.addCleanup(opened.close)
        opened.sendall(self.mark)

    def rename_denied(self):
        self.filter_within(f"""chain in {{ type nat hook input priority 100;
            ip saddr {DENIED4} snat to {self.peer.ip4}
        }}""")

    def test_answers_to_who_comes_in_an_allowed_ones_name(self):
        self.rename_denied()
        self.call_in(DENIED4)
        self.recorded(protocol="tcp", src__ip=SECOND4, dst__ip=DENIED4)
        self.nothing_arrived(content=self.mark)

    def test_answers_to_who_comes_in_his_own_name(self):
        self.rename_denied()
        self.call_in(self.peer.ip4)
        self.wire.wait(content=self.mark, source=SECOND4, source_port=SERVED)

    def test_an_allowed_connection_that_is_given_to_an_interface(self):
        self.become_known()

        def converse():
            with socket.create_connection((self.peer.ip4, ALLOWED), 2) as opened:
                to_interface(opened)
                opened.sendall(self.mark)
        self.assertEqual(self.inside(converse), "")
        self.wire.wait(content=self.mark, port=ALLOWED)


# A thread goes into a new namespace alone, says its id, and connects when it is told to.
APART = """
import ctypes, os, sys, threading
sys.path.insert(0, sys.argv[1])
import probe
def hold():
    if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
        os._exit(1)
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
    probe.main(["hold", *sys.argv[2:]])
threading.Thread(target=hold).start()
"""


class OutlivesAChange(InnerTest):
    """What a change of the policy forbids ends with it."""

    POLICY = POLICY.replace("tcp/7000-7001", f"tcp/{KEPT}, tcp/{CUT}") + "sessions: cut\n"

    @classmethod
    def arrange(cls):
        super().arrange()
        cls.file = cls.attacker.dir / "policies" / "policy.yaml"
        cls.before = cls.file.read_text()
        for port in (KEPT, CUT):
            cls.peer.serve("tcp", port)

    def setUp(self):
        super().setUp()
        self.file.write_text(self.before)
        wait_until(lambda: self.can_begin() == "", timeout=10, what="the policy of before")

    def can_begin(self):
        return self.attempt(lambda: socket.create_connection((self.peer.ip4, CUT), 2).close())

    def change(self):
        """Returns when the agent has looked at live connections for the second time."""
        self.file.write_text(self.before.replace(f", tcp/{CUT}", ""))
        wait_until(lambda: self.can_begin() == "EPERM", timeout=10, what="the change")
        time.sleep(3)
        self.next_attempt()

    def ended(self, held):
        self.assertFalse(held.exchange(self.mark.hex())["ok"])
        self.assertEqual(self.wire.matching(content=self.mark.hex().encode()), [], "this reached the peer")

    def test_what_the_namespace_calls_its_own(self):
        self.macvlan()
        held = self.hold_within(self.peer.ip4, CUT)
        self.assertTrue(held.exchange()["ok"])
        self.own_but_elsewhere()
        self.change()
        self.ended(held)

    def test_in_a_namespace_that_only_a_thread_has(self):
        process = self.attacker.pipe(PYTHON, "-Bc", APART, PROBE.parent, self.peer.ip4, CUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        thread = process.stdout.readline().strip()
        if not thread:
            self.skipTest("no namespaces here")
        self.give_macvlan(thread)
        # Beside the agent's scope: no process that it guards is in the namespace.
        self.attacker.run("nsenter", f"--net=/proc/{process.pid}/task/{thread}/ns/net", "sh", "-c",
                          f"ip addr add {THIRD4}/24 dev mv0 && ip link set mv0 up", daemon=True).check()
        process.stdin.write("begin\n")
        process.stdin.flush()
        held = Probe(process)
        self.assertTrue(held.exchange()["ok"], held.opened)
        self.change()
        self.ended(held)

    def test_what_is_allowed_still(self):
        self.macvlan()
        kept, cut = self.hold_within(self.peer.ip4, KEPT), self.hold_within(self.peer.ip4, CUT)
        for held in (kept, cut):
            self.assertTrue(held.exchange()["ok"])
        self.change()
        self.ended(cut)
        self.assertTrue(kept.exchange()["ok"])
