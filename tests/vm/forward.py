#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the machine, in a network namespace: sends datagrams past its doors, or sees which come.

usage: forward.py send INTERFACE GATEWAY-MAC SOURCE PORT DESTINATION...
       forward.py watch SECONDS

`watch` prints a JSON object: destination to port to the sources that were seen, of what `send` has sent.
"""

import collections
import json
import socket
import struct
import sys
import time

MARK = b"bulkhead forwards this"
ETH_P_ALL, ETH_P_IP = 3, 0x0800
IP, UDP = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHHH")


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(source, destination, port):
    udp = UDP.pack(40000, port, UDP.size + len(MARK), 0) + MARK
    addresses = socket.inet_aton(source), socket.inet_aton(destination)
    ip = IP.pack(0x45, 0, IP.size + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses)
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp


def send(interface, gateway, source, port, *destinations):
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as packets:
        to = (interface, ETH_P_IP, 0, 0, bytes.fromhex(gateway.replace(":", "")))
        for destination in destinations * 3:
            packets.sendto(datagram(source, destination, int(port)), to)


def watch(seconds):
    seen, end = collections.defaultdict(lambda: collections.defaultdict(list)), time.monotonic() + float(seconds)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as packets:
        while (left := end - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                data = packets.recv(2048)
            except TimeoutError:
                break
            if MARK not in data:
                continue
            *_, source, destination = IP.unpack_from(data)
            sources = seen[socket.inet_ntoa(destination)][UDP.unpack_from(data, IP.size)[1]]
            if socket.inet_ntoa(source) not in sources:
                sources.append(socket.inet_ntoa(source))
    print(json.dumps(seen))


{"send": send, "watch": watch}[sys.argv[1]](*sys.argv[2:])
