# SPDX-License-Identifier: Apache-2.0
"""The judge: what really came out of a host's interface, and frames put into it."""

import select
import socket
import time

from harness import namespaces

from . import packets

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23


class Wire:
    """Sees every frame that reaches the interface from outside, before any program or filter of that host does."""

    def __init__(self, host, interface="eth0"):
        with namespaces.inside(host.netns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.socket.bind((interface, ETH_P_ALL))
            self.mac = ":".join(f"{byte:02x}" for byte in self.socket.getsockname()[4])
        self.seen = []

    def poll(self):
        while select.select([self.socket], [], [], 0)[0]:
            self.seen.append(packets.parse(self.socket.recv(65536)))
        return self.seen

    def clear(self):
        self.poll()
        self.seen = []

    def matching(self, content=None, **fields):
        """Frames whose fields are as given and that contain the bytes."""
        return [packet for packet in self.poll() if (content is None or content in packet.raw) and
                all(getattr(packet, name) == value for name, value in fields.items())]

    def wait(self, timeout=2.0, content=None, **fields):
        deadline = time.monotonic() + timeout
        while not (found := self.matching(content, **fields)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not on the wire within {timeout} s: {fields} {content}; seen: {self.seen}")
            select.select([self.socket], [], [], 0.05)
        return found

    def inject(self, target_mac, data, kind=None, tags=()):
        """Sends an IP packet as this host, which no agent of the target watches."""
        kind = kind or (packets.ETH_IPV6 if data[0] >> 4 == 6 else packets.ETH_IPV4)
        self.socket.send(packets.ethernet(target_mac, self.mac, kind, data, tags))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
