# SPDX-License-Identifier: Apache-2.0
"""The demo's machines: a controller, a web server, an API and a database, each in a namespace of its own."""

import os
import subprocess
from pathlib import Path

from harness import cgroups
from harness.bulkhead import Agent, Controller, program
from harness.lab import Lab, wait_until

HERE = Path(__file__).resolve().parent
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
MANAGEMENT = ["10.77.0.1/32", "fd77::1/128"]


def demo_lab() -> Lab:
    return Lab("bulkhead-demo", base="", prefix="bh-demo", run=Path("/run"))


class Shop:
    def __init__(self, lab: Lab):
        self.lab = lab
        self.ctl = lab.add_host("ctl", 1)
        self.web, self.api, self.db = (lab.add_host(name) for name in ("web", "api", "db"))
        self.hosts = (self.web, self.api, self.db)
        self.controller = Controller(self.ctl)
        self.agents = {host.name: Agent(host, {"host": host.name}, self.controller, management=MANAGEMENT,
                                        log_level="info") for host in self.hosts}

    def start_web(self):
        config = (HERE / "nginx.conf").read_text().replace("@DIR@", str(self.web.dir))
        path = self.web.dir / "nginx.conf"
        path.write_text(config.replace("@API@", f"{self.api.ip4}:8000"))
        self.web.start("/usr/sbin/nginx", "-c", path, unit="nginx.service")

    def start_api(self):
        self.api.start("/usr/bin/python3", HERE / "api.py", 8000, self.db.ip4, unit="shop-api.service")
        key = self.api.dir / "ssh_host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.lab.make_folder(Path("/run/sshd"))  # sshd insists on it; Debian's unit makes it too
        config = self.api.dir / "sshd_config"
        config.write_text(f"HostKey {key}\nPidFile none\nUsePAM no\nPasswordAuthentication no\n")
        self.api.start("/usr/sbin/sshd", "-D", "-f", config, unit="ssh.service")

    def start_db(self):
        data = self.db.dir / "postgresql"
        data.mkdir()
        subprocess.run(["chown", "postgres:", str(data)], check=True)
        self.db.run(POSTGRES / "initdb", "-D", data, "-A", "trust", "-N", "-E", "UTF8", "--locale=C", user="postgres",
                    unit="postgresql.service", timeout=60).check()
        with open(data / "pg_hba.conf", "a", encoding="ascii") as rules:
            rules.write("host all all 10.77.0.0/24 trust\nhost all all fd77::/64 trust\n")
        self.db.start(POSTGRES / "postgres", "-D", data, "-h", "*", "-k", data, "-c", "fsync=off", user="postgres",
                      unit="postgresql.service", log="postgresql.log")
        self.db.start("/usr/sbin/sshd", "-D", "-f", self.api.dir / "sshd_config", unit="ssh.service")
        admin = ["psql", "-X", "-q", "-h", data, "-U", "postgres", "-d", "postgres"]
        wait_until(lambda: self.db.run(*admin, "-c", "select 1", unit="postgresql.service").code == 0, 15,
                   "PostgreSQL answers", 0.1)
        self.db.run(*admin, "-c", "create role shop login", "-c", "create database shop owner shop",
                    unit="postgresql.service").check()
        self.db.run("psql", "-X", "-q", "-h", data, "-U", "shop", "-d", "shop", "-c",
                    "create table orders (item text, amount int)", "-c",
                    "insert into orders values ('anchors', 3), ('bulkheads', 12), ('compasses', 1)",
                    unit="postgresql.service").check()

    def start_workloads(self):
        self.start_api()
        self.start_db()
        self.start_web()
        wait_until(lambda: self.orders().code == 0, 15, "the shop answers", 0.1)

    def orders(self):
        return self.ctl.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{self.web.ip4}:8080/orders")

    def commands_to_try(self) -> list[str]:
        inside = "nsenter --net=/run/netns/bh-demo-{}"
        ctl = os.path.relpath(program("bulkheadctl"))
        control = f"{inside.format('ctl')} {ctl} --config {self.controller.state}/admin.yaml"
        local = f"{ctl} --local --socket {self.agents['db'].socket}"
        # A process is judged when it is in its host's cgroup: move the shell there first.
        shell = f"sh -c 'echo 0 >{cgroups.root()}/bulkhead-demo/web/cgroup.procs; exec {inside.format('web')} bash'"
        return [f"{control} violations -f", f"{control} flows --last 20", f"{control} agent status",
                f"{control} segment show shop-db", f"{local} agent status",
                f"{shell}    # a shell on web; try: curl -m2 10.77.0.13:5432"]
