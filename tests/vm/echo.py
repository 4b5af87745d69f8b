#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Echo servers, TCP and UDP, both families, on each port that is named: what the machine offers."""

import selectors
import socket
import sys


def main():
    selector = selectors.DefaultSelector()
    for port in map(int, sys.argv[1:]):
        tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        selector.register(tcp, selectors.EVENT_READ, "listener")
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind(("::", port))
        selector.register(udp, selectors.EVENT_READ, "datagrams")
    while True:
        for key, _ in selector.select():
            try:
                if key.data == "listener":
                    selector.register(key.fileobj.accept()[0], selectors.EVENT_READ, "connection")
                elif key.data == "datagrams":
                    data, sender = key.fileobj.recvfrom(2048)
                    key.fileobj.sendto(data, sender)
                else:
                    data = key.fileobj.recv(4096)
                    if not data:
                        raise OSError("closed")
                    key.fileobj.sendall(data)
            except OSError:
                if key.data == "connection":
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


main()
