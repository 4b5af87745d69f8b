#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs what the test asks for, over a virtio port: beside the network, which the test's subject may close."""

import json
import os
import subprocess
import threading
import time

PORT = "/dev/virtio-ports/bulkhead.test"


def run(request):
    """A command may leave processes behind that hold its output open; so that goes into a file, not into a pipe."""
    with open(f"/run/bulkhead-test-{request['id']}", "w+b") as output:
        try:
            status = subprocess.run(
                ["/bin/bash", "-c", request["command"]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=request["timeout"],
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        os.unlink(output.name)
        output.seek(0)
        return {"id": request["id"], "status": status, "output": output.read().decode(errors="replace")}


def main():
    while not os.path.exists(PORT):
        time.sleep(0.1)
    with open(os.open(PORT, os.O_RDWR), "r+b", buffering=0) as port:
        lock = threading.Lock()

        def tell(answer):
            data = json.dumps(answer).encode() + b"\n"
            with lock:
                while data:
                    data = data[port.write(data) :]

        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
            tell({"boot": boot_id.read().strip()})
        pending = b""
        while True:
            data = port.read(65536)
            if not data:  # nobody at the other end
                time.sleep(0.1)
                continue
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.strip():
                    threading.Thread(target=lambda request: tell(run(request)), args=[json.loads(line)]).start()


main()
