#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo shop's API: GET /orders asks the database. usage: api.py PORT DATABASE_HOST"""

import http.server
import socket
import subprocess
import sys

QUERY = "select item || ' x ' || amount from orders order by item"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        psql = subprocess.run(["psql", "-X", "-At", "-h", sys.argv[2], "-U", "shop", "-d", "shop", "-c", QUERY],
                              capture_output=True, text=True, timeout=5, check=False)
        body = (psql.stdout or psql.stderr).encode()
        self.send_response(200 if psql.returncode == 0 else 502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # with IPv4 as mapped addresses


if __name__ == "__main__":
    Server(("::", int(sys.argv[1])), Handler).serve_forever()
