# SPDX-License-Identifier: Apache-2.0
"""System calls that Python's socket module does not offer. x86-64 numbers where they differ between machines."""

import ctypes
import errno
import mmap
import os
import platform
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
MAP_32BIT = 0x40


def checked(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def sockaddr(address, port, scope=0):
    if ":" in address:
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, socket.inet_pton(
            socket.AF_INET6, address)) + struct.pack("=I", scope)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(address))


def connect(opened, name):
    """connect(2) with the bytes as they are."""
    checked(libc.connect(opened.fileno(), name, len(name)))


def disconnect(opened):
    connect(opened, struct.pack("=H14x", socket.AF_UNSPEC))


def sendmmsg(opened, messages):
    """Sends (bytes, sockaddr bytes) in one call; how many went."""
    keep, headers = [], b""
    for data, name in messages:
        buffer, target = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(name, len(name))
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(buffer), len(data)), 16)
        keep += [buffer, target, vector]
        headers += struct.pack("=QI4xQQQQi4xI4x", ctypes.addressof(target), len(name), ctypes.addressof(vector), 1,
                               0, 0, 0, 0)
    return checked(libc.sendmmsg(opened.fileno(), headers, len(messages), 0))


class Ring:
    """io_uring with one request at a time; see io_uring_setup(2)."""

    SETUP, ENTER, GETEVENTS, WAKEUP, SQPOLL, ASYNC = 425, 426, 1, 2, 2, 1 << 4
    SENDMSG, CONNECT, SEND, URING_CMD = 9, 16, 26, 46

    def __init__(self, polled=False):
        parameters = ctypes.create_string_buffer(struct.pack("=4I", 0, 0, self.SQPOLL if polled else 0, 0), 120)
        if polled:
            struct.pack_into("=I", parameters, 16, 50)  # ms until the kernel's thread sleeps
        self.fd = checked(libc.syscall(self.SETUP, 4, parameters))
        self.polled = polled
        entries, completions = struct.unpack_from("=II", parameters, 0)
        self.sq, self.cq = (struct.unpack_from("=7I", parameters, at) for at in (40, 80))
        shared, rights = mmap.MAP_SHARED | 0x8000, mmap.PROT_READ | mmap.PROT_WRITE  # MAP_POPULATE
        self.sq_ring = mmap.mmap(self.fd, self.sq[6] + 4 * entries, shared, rights)
        self.cq_ring = mmap.mmap(self.fd, self.cq[5] + 16 * completions, shared, rights, offset=0x8000000)
        self.sqes = mmap.mmap(self.fd, 64 * entries, shared, rights, offset=0x10000000)

    def request(self, opcode, fd, address=0, length=0, offset=0, flags=0, address_length=0):
        """Submits one request and waits: its result, or OSError."""
        self.sqes[:64] = struct.pack("=BBHiQQIIQHHHHQQ", opcode, flags, 0, fd, offset, address, length, 0, 1, 0, 0,
                                     address_length, 0, 0, 0)
        head, tail = (struct.unpack_from("=I", self.sq_ring, self.sq[i])[0] for i in (0, 1))
        mask = struct.unpack_from("=I", self.sq_ring, self.sq[2])[0]
        struct.pack_into("=I", self.sq_ring, self.sq[6] + 4 * (tail & mask), 0)
        struct.pack_into("=I", self.sq_ring, self.sq[1], tail + 1)
        checked(libc.syscall(self.ENTER, self.fd, 0 if self.polled else 1, 1,
                             self.GETEVENTS | (self.WAKEUP if self.polled else 0), 0, 0))
        head = struct.unpack_from("=I", self.cq_ring, self.cq[0])[0]
        mask = struct.unpack_from("=I", self.cq_ring, self.cq[2])[0]
        result = struct.unpack_from("=i", self.cq_ring, self.cq[5] + 16 * (head & mask) + 8)[0]
        struct.pack_into("=I", self.cq_ring, self.cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def connect(self, opened, name, flags=0):
        buffer = ctypes.create_string_buffer(name, len(name))
        return self.request(self.CONNECT, opened.fileno(), ctypes.addressof(buffer), offset=len(name), flags=flags)

    def send(self, opened, data, name=b"", flags=0):
        buffer, target = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(name, len(name) or 1)
        return self.request(self.SEND, opened.fileno(), ctypes.addressof(buffer), len(data), flags=flags,
                            offset=ctypes.addressof(target) if name else 0, address_length=len(name))


class Compat:
    """System calls of the 32-bit table from a 64-bit process (int 0x80), whose pointers must be low."""

    CONNECT, SETSOCKOPT, SENDTO = 362, 366, 369
    # nr, five arguments -> eax, ebx, ecx, edx, esi, edi; int 0x80; sign extended
    CODE = bytes.fromhex("53 89f8 89f3 87d1 4489c6 4489cf cd80 4898 5b c3")

    def __init__(self):
        self.memory = self._map(mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        ctypes.memmove(self.memory, self.CODE, len(self.CODE))
        self.function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 6)(self.memory)
        self.data = self.memory + 1024

    @staticmethod
    def available():
        if platform.machine() != "x86_64":
            return False
        try:  # without 32-bit support int 0x80 is SIGSEGV, so a child asks
            pid = os.fork()
            if pid == 0:
                try:
                    Compat()._call(20)  # getpid
                    os._exit(0)
                finally:
                    os._exit(1)
            return os.waitpid(pid, 0)[1] == 0
        except OSError:
            return False

    @staticmethod
    def _map(rights):
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        address = libc.mmap(None, 4096, rights, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT, -1, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(errno.ENOMEM, "mmap")
        return address

    def _call(self, number, *arguments):
        result = self.function(number, *arguments, *[0] * (5 - len(arguments)))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def connect(self, opened, name):
        ctypes.memmove(self.data, name, len(name))
        return self._call(self.CONNECT, opened.fileno(), self.data, len(name))

    def setsockopt(self, opened, level, option, value):
        ctypes.memmove(self.data, value, len(value))
        return self._call(self.SETSOCKOPT, opened.fileno(), level, option, self.data, len(value))
