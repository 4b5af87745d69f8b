#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One socket, run inside a host of a Lab, that says exactly what happened to it: one JSON object a line.

  probe.py tcp ADDRESS PORT [TEXT]        connect, send TEXT, read the echo, close
  probe.py udp ADDRESS PORT [TEXT]        the same on a connected datagram socket
  probe.py udp-sendto ADDRESS PORT [TEXT] the same on an unconnected one
  probe.py hold ADDRESS PORT              connect, then echo every line of standard input through the connection
  probe.py hold-udp ADDRESS PORT          the same, unconnected datagrams
  probe.py serve tcp|udp ADDRESS PORT     an echo server; says {"ready": true} when it listens
  probe.py serve udp-connected ADDRESS PORT
                                          the same, with a socket for each peer, connected to it (QUIC, DTLS, socat)

An IPv4-mapped ADDRESS (::ffff:10.0.0.1) goes through an AF_INET6 socket.
"""

import errno
import json
import socket
import sys
import threading
import time

TIMEOUT = 1.5


def say(**fields):
    print(json.dumps(fields), flush=True)


def open_socket(kind, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind)
    opened.settimeout(TIMEOUT)
    return opened


def name_of(error):
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno, str(error))


def attempt(kind, address, port, text):
    began = time.monotonic()
    sent = False
    try:
        if kind == "tcp":
            opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            opened.settimeout(TIMEOUT)
            opened.connect((address, port))
            took = time.monotonic() - began
            opened.sendall(text)
            reply = opened.recv(4096)
        else:
            opened = open_socket(socket.SOCK_DGRAM, address)
            if kind == "udp":
                opened.connect((address, port))
                opened.send(text)
            else:
                opened.sendto(text, (address, port))
            sent = True
            reply = opened.recvfrom(4096)[0]
            took = time.monotonic() - began
    except OSError as error:
        return say(ok=False, error=name_of(error), seconds=time.monotonic() - began, sent=sent)
    local = opened.getsockname()
    opened.close()
    return say(ok=reply == text, reply=reply.decode(errors="replace"), seconds=took, local_port=local[1])


def hold(kind, address, port):
    opened = open_socket(kind, address)
    try:
        if kind == socket.SOCK_STREAM:
            opened.connect((address, port))
    except OSError as error:
        return say(ok=False, error=name_of(error))
    if kind == socket.SOCK_STREAM:
        say(ok=True, local_port=opened.getsockname()[1])
    else:
        say(ok=True)
    for line in sys.stdin:
        try:
            if kind == socket.SOCK_STREAM:
                opened.sendall(line.encode())
            else:
                opened.sendto(line.encode(), (address, port))
            reply = opened.recv(4096).decode()
            say(ok=reply == line, reply=reply, error="" if reply else "EOF")
        except OSError as error:
            say(ok=False, error=name_of(error))
    opened.close()
    return None


def serve_connection(connection):
    try:
        while data := connection.recv(4096):
            connection.sendall(data)
    except OSError:
        pass
    connection.close()


def bound(kind, address, port):
    opened = open_socket(socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, address)
    opened.settimeout(None)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind((address, port))
    return opened


def serve_peer(opened, peer, data):
    try:
        opened.connect(peer)
        while True:
            opened.send(data)
            data = opened.recv(4096)
    except OSError:
        pass
    opened.close()


def serve(kind, address, port):
    opened = bound(kind, address, port)
    if kind == "tcp":
        opened.listen(64)
    say(ready=True)
    while True:
        if kind == "tcp":
            threading.Thread(target=serve_connection, args=(opened.accept()[0],), daemon=True).start()
        else:
            data, peer = opened.recvfrom(4096)
            if kind == "udp":
                opened.sendto(data, peer)
            else:
                threading.Thread(target=serve_peer, args=(bound(kind, address, port), peer, data), daemon=True).start()


def main(arguments):
    mode = arguments[0]
    if mode == "serve":
        serve(arguments[1], arguments[2], int(arguments[3]))
    elif mode == "hold":
        hold(socket.SOCK_STREAM, arguments[1], int(arguments[2]))
    elif mode == "hold-udp":
        hold(socket.SOCK_DGRAM, arguments[1], int(arguments[2]))
    else:
        text = arguments[3] if len(arguments) > 3 else "ping"
        attempt(mode, arguments[1], int(arguments[2]), text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
