# SPDX-License-Identifier: Apache-2.0
"""Packets by hand, and what is read back from the wire."""

import dataclasses
import socket
import struct

ETH_IPV4, ETH_IPV6, ETH_ARP, ETH_VLAN, ETH_QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
EXTENSION_HEADERS = {0: "hop-by-hop", 43: "routing", 44: "fragment", 60: "destination", 135: "mobility"}


def is_v6(address):
    return ":" in address


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if is_v6(address) else socket.AF_INET, address)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _with_checksum(source, target, protocol, segment, offset):
    if is_v6(target):
        pseudo = packed(source) + packed(target) + struct.pack("!II", len(segment), protocol)
    else:
        pseudo = packed(source) + packed(target) + struct.pack("!BBH", 0, protocol, len(segment))
    value = checksum(pseudo + segment) or 0xFFFF
    return segment[:offset] + struct.pack("!H", value) + segment[offset + 2:]


def tcp(source, target, source_port, port, flags=SYN, payload=b"", seq=0x01020304, ack=0):
    segment = struct.pack("!HHIIBBHHH", source_port, port, seq, ack, 5 << 4, flags, 64240, 0, 0) + payload
    return _with_checksum(source, target, socket.IPPROTO_TCP, segment, 16)


def udp(source, target, source_port, port, payload=b"", protocol=socket.IPPROTO_UDP):
    """UDP, or with another protocol number UDP-Lite, whose header has the same form (RFC 3828)."""
    segment = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    return _with_checksum(source, target, protocol, segment, 6)


def icmp(kind, payload=b"", code=0, rest=b"\0\0\0\1"):
    message = struct.pack("!BBH", kind, code, 0) + rest + payload
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def icmpv6(source, target, kind, payload=b"", code=0, rest=b"\0\0\0\1"):
    message = struct.pack("!BBH", kind, code, 0) + rest + payload
    return _with_checksum(source, target, socket.IPPROTO_ICMPV6, message, 2)


def ipv4(source, target, protocol, payload, options=b"", identification=0x4242, flags=0, offset=0, ttl=64):
    """`flags`: 1 is "more fragments"; `offset` in units of eight bytes."""
    words = 5 + len(options) // 4
    header = struct.pack("!BBHHHBBH4s4s", 4 << 4 | words, 0, 4 * words + len(payload), identification,
                         flags << 13 | offset, ttl, protocol, 0, packed(source), packed(target)) + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(source, target, protocol, payload, hops=64):
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, hops, packed(source), packed(target)) + payload


def ip(source, target, protocol, payload, **options):
    return (ipv6 if is_v6(target) else ipv4)(source, target, protocol, payload, **options)


def fragment_header(following, offset, more, identification=0x4242):
    return struct.pack("!BBHI", following, 0, offset << 3 | more, identification)


def extension(following, body=b"\x01\x04\0\0\0\0"):
    """Hop-by-hop or destination options (PadN), or any header of that form; the body fills it to eight bytes."""
    return struct.pack("!BB", following, (len(body) + 2) // 8 - 1) + body


def mac(address):
    return bytes.fromhex(address.replace(":", ""))


def ethernet(target, source, kind, payload, tags=()):
    """`tags`: (ethertype, tag control information) from the outermost on."""
    tagged = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return mac(target) + mac(source) + tagged + struct.pack("!H", kind) + payload


@dataclasses.dataclass(frozen=True)
class Packet:
    """A frame as it was seen; ports and payload where they could be read."""

    raw: bytes
    source: str = ""
    target: str = ""
    protocol: int = -1
    source_port: int = -1
    port: int = -1
    flags: int = 0

    def __repr__(self):
        return f"{self.protocol} {self.source}:{self.source_port} -> {self.target}:{self.port} {self.raw.hex()}"


def _transport(raw, data, source, target, protocol):
    ports = struct.unpack("!HH", data[:4]) if protocol in (6, 17, 132, 136) and len(data) >= 4 else (-1, -1)
    flags = data[13] if protocol == 6 and len(data) > 13 else 0
    return Packet(raw, source, target, protocol, *ports, flags)


def parse(frame):
    kind, at = struct.unpack("!H", frame[12:14])[0], 14
    while kind in (ETH_VLAN, ETH_QINQ) and len(frame) >= at + 4:
        kind, at = struct.unpack("!H", frame[at + 2:at + 4])[0], at + 4
    data = frame[at:]
    if kind == ETH_IPV4 and len(data) >= 20:
        source, target = (socket.inet_ntoa(data[i:i + 4]) for i in (12, 16))
        fragment = struct.unpack("!H", data[6:8])[0] & 0x1FFF
        rest = b"" if fragment else data[4 * (data[0] & 15):]
        return _transport(frame, rest, source, target, data[9])
    if kind == ETH_IPV6 and len(data) >= 40:
        source, target = (socket.inet_ntop(socket.AF_INET6, data[i:i + 16]) for i in (8, 24))
        protocol, rest = data[6], data[40:]
        while protocol in EXTENSION_HEADERS and len(rest) >= 8:
            first = protocol != 44 or not struct.unpack("!H", rest[2:4])[0] >> 3
            protocol, rest = rest[0], rest[8 if protocol == 44 else 8 * (rest[1] + 1):] if first else b""
        return _transport(frame, rest, source, target, protocol)
    return Packet(frame)
