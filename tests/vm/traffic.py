#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the machine: connects to each ADDRESS PORT in turn, again and again, and counts what each of them answered.

usage: traffic.py STOP-FILE ADDRESS PORT [ADDRESS PORT]...

Ends after the round in which it finds STOP-FILE, and prints a JSON object: address to answers ("ok" or the name of the
error) to their number.
"""

import collections
import errno
import json
import os
import socket
import sys
import time


def answer(address, port):
    try:
        with socket.create_connection((address, port), timeout=20) as tcp:
            tcp.sendall(b"ping")
            return "ok" if tcp.recv(16) == b"ping" else "closed"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno, "silence")


def main():
    stop, *words = sys.argv[1:]
    counts = collections.defaultdict(collections.Counter)
    while True:
        for address, port in zip(words[::2], words[1::2]):
            counts[address][answer(address, int(port))] += 1
        if os.path.exists(stop):
            break
        time.sleep(0.1)
    print(json.dumps(counts))


main()
