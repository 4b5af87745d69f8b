# SPDX-License-Identifier: Apache-2.0
"""Real servers and clients: nginx, Redis, curl, ssh; bytes, durations and processes in their records."""

from harness.bulkhead import deploy
from harness.case import LabTest
from harness.lab import wait_until

POLICY = """
version: 1
segment: web
selector: {role: web}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: visitors, from: any, service: http, process: {unit: nginx.service}}
  - {id: cache, to: {segment: cache}, service: redis}
---
version: 1
segment: cache
selector: {role: cache}
mode: enforce
---
version: 1
services: {http: [tcp/80], redis: [tcp/6379]}
"""

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen 80; listen [::]:80; listen 8080; root {dir}; }}
}}
"""


class Services(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, cls.agents = deploy(cls.lab, {"web": {"role": "web"}, "cache": {"role": "cache"}})
        cls.web, cls.cache = cls.agents["web"].host, cls.agents["cache"].host
        cls.guest = cls.lab.add_host("guest", 50)
        (cls.web.dir / "nginx.conf").write_text(NGINX.format(dir=cls.web.dir))
        (cls.web.dir / "page").write_text("x" * 100_000)
        cls.web.start("/usr/sbin/nginx", "-c", cls.web.dir / "nginx.conf", unit="nginx.service")
        cls.cache.start("/usr/bin/redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "",
                        "--dir", cls.cache.dir, unit="redis-server.service")
        wait_until(lambda: cls.web.listens(80) and cls.cache.listens(6379), 10, "nginx and Redis listen")
        cls.controller.apply(POLICY)

    def curl(self, url, *options):
        return self.guest.run("/usr/bin/curl", "-sS", "-g", "--max-time", "5", "-o", "/dev/null", "-w",
                              "%{http_code} %{size_download} %{local_port}", *options, url)

    def test_nginx_serves_over_both_families_and_is_recorded(self):
        for address in (self.web.ip4, f"[{self.web.ip6}]"):
            code, size, port = self.curl(f"http://{address}/page").check().stdout.split()
            self.assertEqual((code, size), ("200", "100000"))
            close = self.await_record(self.controller.records, host="web", event="close", src__port=int(port))
            self.assertEqual(close["rule"], "web/visitors")
            self.assertGreaterEqual(close["bytes_out"], 100_000)
            self.assertLess(close["bytes_out"], 110_000)
            self.assertGreater(close["bytes_in"], 50)
            self.assertLess(close["duration_us"], 5_000_000)
            self.assertEqual(close["process"]["exe"], "/usr/sbin/nginx")
            self.assertEqual(close["process"]["unit"], "nginx.service")

    def test_a_port_of_nginx_that_no_rule_names_is_refused(self):
        result = self.curl(f"http://{self.web.ip4}:8080/page")
        self.assertEqual(result.code, 7, result)
        self.assertLess(result.seconds, 1)
        self.await_record(self.controller.violations, host="web", dst__port=8080, process__exe="/usr/sbin/nginx")

    def test_redis_for_web_only(self):
        ping = ("/usr/bin/redis-cli", "-h", self.cache.ip4, "ping")
        self.assertEqual(self.web.run(*ping).check().stdout, "PONG\n")
        refused = self.guest.run(*ping)
        self.assertIn("Connection refused", refused.stdout + refused.stderr)
        record = self.await_record(self.controller.records, host="cache", event="close", dst__port=6379)
        self.assertEqual(record["src"]["workload"], "web")
        self.assertEqual(record["process"]["exe"], "/usr/bin/redis-check-rdb"
                         if record["process"]["exe"].endswith("check-rdb") else "/usr/bin/redis-server")

    def test_filters_find_what_they_say(self):
        self.curl(f"http://{self.web.ip4}:8080/")
        self.curl(f"http://{self.web.ip4}/page")
        self.await_record(self.controller.violations, host="web", dst__port=8080)
        self.await_record(self.controller.records, host="web", dst__port=80, event="close")
        checks = {
            ("--port", "80"): lambda r: r["dst"]["port"] == 80,
            ("--host", "web"): lambda r: r["host"] == "web",
            ("--verdict", "denied"): lambda r: r["verdict"] == "denied",
            ("--unit", "nginx.service"): lambda r: r["process"]["unit"] == "nginx.service",
            ("--process", "*/nginx"): lambda r: r["process"]["exe"].endswith("/nginx"),
            ("--direction", "inbound"): lambda r: r["direction"] == "inbound",
            ("--protocol", "tcp"): lambda r: r["protocol"] == "tcp",
            ("--from", self.guest.ip4): lambda r: r["src"]["ip"] == self.guest.ip4,
            ("--to", "role=web"): lambda r: r["dst"]["labels"]["role"] == "web",
            ("--to", "web", "--port", "80", "--port", "8080"): lambda r: r["dst"]["port"] in (80, 8080),
        }
        for arguments, holds in checks.items():
            with self.subTest(arguments=arguments):
                records = [r for r in self.controller.records(*arguments) if r["kind"] in ("flow", "violation")]
                self.assertTrue(records)
                self.assertTrue(all(holds(record) for record in records), records)

    def test_inventory_says_who_is_there(self):
        listed = self.controller.ctl("workload", "list").check().stdout
        self.assertRegex(listed, r"(?m)^web\b.*")
        shown = self.controller.ctl("workload", "show", "web").check().stdout
        self.assertIn(self.web.ip4, shown)
        self.assertIn("fd77::11", shown)
        self.assertIn("web", self.controller.ctl("segment", "list").check().stdout)
        self.assertIn("visitors", self.controller.ctl("segment", "show", "web").check().stdout)

    def test_a_label_moves_a_workload_between_segments(self):
        self.addCleanup(lambda: self.controller.ctl("workload", "label", "cache", "role=cache"))
        ping = ("/usr/bin/redis-cli", "-h", self.cache.ip4, "ping")
        self.controller.ctl("workload", "label", "cache", "role=elsewhere").check()
        wait_until(lambda: "PONG" not in self.web.run(*ping).stdout, 3, "web may no longer reach it", 0.05)
        self.controller.ctl("workload", "label", "cache", "role=cache").check()
        wait_until(lambda: "PONG" in self.web.run(*ping).stdout, 3, "web reaches it again", 0.05)

    def test_doctor_finds_this_host_ready(self):
        result = self.agents["web"].local("doctor")
        self.assertIn(result.code, (0, 6), result)  # 6: warnings, of the machine that tests run on
