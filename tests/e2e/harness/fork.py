# SPDX-License-Identifier: Apache-2.0
"""A Python function in a process of its own, so that a test's attack stands in the test."""

import gc
import os
import pickle
import select
import signal
import time


class Failed(Exception):
    """What the function raised, when that cannot be carried from process to process."""


def _answer(function, arguments):
    try:
        return pickle.dumps((True, function(*arguments)))
    except OSError as error:
        return pickle.dumps((False, OSError(error.errno, error.strerror)))
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        return pickle.dumps((False, Failed(f"{type(error).__name__}: {error}")))


def _child(enter, function, arguments, write):
    gc.disable()  # a collection here would close what the parent holds
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    enter()
    answer = _answer(function, arguments)
    while answer:
        answer = answer[os.write(write, answer):]


def _read(read, pid, timeout):
    deadline, answer = time.monotonic() + timeout, b""
    while True:
        if not select.select([read], [], [], max(deadline - time.monotonic(), 0))[0]:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"the function did not return within {timeout} s")
        chunk = os.read(read, 65536)
        if not chunk:
            return answer
        answer += chunk


def call(enter, function, arguments, timeout):
    """Forks; the child calls enter(), then the function, and gives its result or its OSError back."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            _child(enter, function, arguments, write)
        finally:
            os._exit(0)  # never through the parent's exit handlers, which take the lab down
    os.close(write)
    try:
        answer = _read(read, pid, timeout)
    finally:
        os.close(read)
        os.waitpid(pid, 0)
    if not answer:
        raise Failed("the process ended without an answer")
    good, value = pickle.loads(answer)
    if good:
        return value
    raise value
