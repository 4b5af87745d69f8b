# SPDX-License-Identifier: Apache-2.0
"""What the machines are cabled to: a bridge in this process's network namespace, which the runner made for it alone."""

import selectors
import socket
import subprocess
import threading
import time

BRIDGE = "bhvm"
GUEST = {4: "10.99.0.1", 6: "fd99::1"}  # of every machine that is not told otherwise
SECOND_GUEST = {4: "10.99.0.4", 6: "fd99::4"}
CONTAINER = {4: "10.99.0.5", 6: "fd99::5"}  # in a machine, by an interface of its own
FRIEND = {4: "10.99.0.2", 6: "fd99::2"}  # whom the policy allows
STRANGER = {4: "10.99.0.3", 6: "fd99::3"}
ETH_P_ALL = 3
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


def open_bridge():
    ip("link set lo up")
    ip(f"link add {BRIDGE} type bridge mcast_snooping 0")
    for address in (FRIEND, STRANGER):
        ip(f"addr add {address[4]}/24 dev {BRIDGE}")
        ip(f"addr add {address[6]}/64 dev {BRIDGE} nodad")
    ip(f"link set {BRIDGE} up")


def close_bridge():
    ip(f"link del {BRIDGE}")


def add_cable(tap):
    ip(f"tuntap add {tap} mode tap")
    ip(f"link set {tap} up")


def plug(tap):
    ip(f"link set {tap} master {BRIDGE}")


def remove_cable(tap):
    ip(f"link del {tap}")


def connect(version, source, port, timeout=15, guest=GUEST):
    """'ok', 'refused' or 'silence' of a TCP connection to the machine."""
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as tcp:
        tcp.settimeout(timeout)
        tcp.bind((source[version], 0))
        try:
            tcp.connect((guest[version], port))
            tcp.sendall(b"ping")
            return "ok" if tcp.recv(16) == b"ping" else "closed"
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return str(error)


def frames(cable, kind, seconds):
    """How many frames of an ethertype come by a cable in this time."""
    count, end = 0, time.monotonic() + seconds
    # All of them: a bridge takes its ports' frames before those are asked who want one kind.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as packets:
        packets.bind((cable, ETH_P_ALL))
        while (left := end - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                count += packets.recv(2048)[12:14] == kind.to_bytes(2, "big")
            except TimeoutError:
                break
    return count


def ask(version, source, port, timeout=15, guest=GUEST):
    """The same of a UDP datagram that an echo server would answer. Sent twice: one may be lost to address lookup."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as udp:
        udp.settimeout(timeout / 2)
        udp.bind((source[version], 0))
        udp.connect((guest[version], port))
        result = "silence"
        for _ in range(2):
            try:
                udp.send(b"ping")
                return "ok" if udp.recv(16) == b"ping" else "closed"
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                continue
        return result


def pings(version, source, count=3):
    return subprocess.run(
        ["ping", f"-{version}", "-n", "-q", "-c", str(count), "-W", "5", "-I", source[version], GUEST[version]],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    ).returncode == 0  # fmt: skip


class Echo:
    """TCP echo servers here, which the machine connects to."""

    def __init__(self, addresses, port):
        self._selector = selectors.DefaultSelector()
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening = socket.create_server((address, port), family=family)
            self._selector.register(listening, selectors.EVENT_READ, True)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            for key, _ in self._selector.select():
                if key.data:
                    self._selector.register(key.fileobj.accept()[0], selectors.EVENT_READ, False)
                    continue
                try:
                    data = key.fileobj.recv(4096)
                    if data:
                        key.fileobj.sendall(data)
                        continue
                except OSError:
                    pass
                self._selector.unregister(key.fileobj)
                key.fileobj.close()


class Knocker:
    """Asks for a TCP port of the machine, again and again, from two addresses at once, and remembers every answer."""

    def __init__(self, version, port, sources, timeout=0.5):
        self.answers = []  # (time, source, answer)
        self._stop, self._timeout = threading.Event(), timeout
        self._threads = [threading.Thread(target=self._knock, args=[version, port, source]) for source in sources]
        for thread in self._threads:
            thread.start()

    def _knock(self, version, port, source):
        while not self._stop.is_set():
            self.answers.append((time.monotonic(), source[version], connect(version, source, port, self._timeout)))
            self._stop.wait(0.05)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.answers

    def of(self, source, version):
        return [answer for _, address, answer in self.answers if address == source[version]]


class Held:
    """A conversation with the machine that says a line ten times a second and counts the answers; the first that does
    not come ends it."""

    def __init__(self, kind, version, source, port):
        self._socket = socket.socket(FAMILY[version], kind)
        self._socket.settimeout(60)
        self._socket.bind((source[version], 0))
        self._socket.connect((GUEST[version], port))
        self.exchanged, self.failure = 0, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self):
        try:
            while not self._stop.is_set():
                line = f"{self.exchanged:08d}".encode()
                self._socket.send(line)
                if self._socket.recv(len(line), socket.MSG_WAITALL) != line:
                    raise OSError("another answer than was asked for")
                self.exchanged += 1
                self._stop.wait(0.1)
        except OSError as error:
            self.failure = str(error)

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()
