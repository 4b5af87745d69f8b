#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The story of scripts/demo: test mode, enforcement, lateral moves. Every step checks what it shows."""

import argparse
import os
import re
import signal
import sys
import time

from harness.bulkhead import REPOSITORY, program
from harness.lab import wait_until
from hosts import Shop, demo_lab

POLICY = REPOSITORY / "policies" / "examples" / "shop.yaml"


class Screen:
    """Prints the story and keeps count of what was not as it should be."""

    def __init__(self):
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._codes = {"bold": "1", "green": "32", "red": "31", "dim": "2"} if colour else {}
        self.wrong, self.checks, self.number = [], 0, 0

    def _paint(self, colour, text):
        return f"\033[{self._codes[colour]}m{text}\033[0m" if self._codes else text

    def heading(self, text):
        self.number += 1
        print(f"\n{self._paint('bold', f'{self.number}. {text}')}", flush=True)

    def command(self, text):
        print(self._paint("dim", f"  {text}"), flush=True)

    def output(self, text, limit=12):
        lines = text.rstrip().splitlines()
        for line in lines[:limit]:
            print(f"    {line}")
        if len(lines) > limit:
            print(f"    ... {len(lines) - limit} more lines")
        sys.stdout.flush()

    def check(self, good, text):
        self.checks += 1
        if good:
            print(f"  {self._paint('green', 'ok')}  {text}", flush=True)
        else:
            self.wrong.append(text)
            print(f"  {self._paint('red', 'WRONG')}  {text}", flush=True)


class Demo:
    def __init__(self, lab, screen):
        self.screen = screen
        self.shop = Shop(lab)
        self.controller = self.shop.controller

    def ctl(self, *arguments, limit=12, show=True):
        self.screen.command("$ bulkheadctl " + " ".join(str(argument) for argument in arguments))
        result = self.controller.ctl(*arguments)
        if show:
            self.screen.output(result.stdout + result.stderr, limit)
        return result

    def on(self, host, *argv, unit="session.scope", limit=4, show=True, timeout=20):
        self.screen.command(f"{host.name}$ " + " ".join(str(argument) for argument in argv))
        result = host.run(*argv, unit=unit, timeout=timeout)
        if show:
            self.screen.output(result.stdout + result.stderr, limit)
        return result

    def enrol(self):
        self.screen.heading("A controller, and three hosts that join it with a token")
        self.screen.command("ctl$ bulkhead-controller --config controller.yaml")
        self.controller.start()
        for host in self.shop.hosts:
            self.screen.command(f"$ bulkheadctl agent token create --label app=shop --label role={host.name}")
            self.screen.command(f"{host.name}$ bulkheadd --controller {self.controller.address} --join TOKEN "
                                f"--cgroup {host.cgroup}")
            self.shop.agents[host.name].enrol("--label", "app=shop", "--label", f"role={host.name}")
        wait_until(lambda: all(self.controller.agent_status(host.name).get("connected") for host in self.shop.hosts),
                   10, "the agents are connected", 0.1)
        self.screen.check(self.ctl("agent", "status").code == 0, "web, api and db are connected")

    def serve(self):
        self.screen.heading("A shop on them: nginx on web, an API on api, PostgreSQL on db, sshd on api and db")
        self.shop.start_workloads()
        self.screen.command(f"ctl$ curl http://{self.shop.web.ip4}:8080/orders")
        result = self.shop.orders()
        self.screen.output(result.stdout)
        self.screen.check("bulkheads x 12" in result.stdout, "the shop answers: web -> api -> db")

    def moves(self):
        """The lateral moves of someone who has taken over web: (words, argv)."""
        api, db = self.shop.api.ip4, self.shop.db.ip4
        return [
            ("web straight to the database", ["psql", "-X", "-At", "-h", db, "-U", "shop", "-d", "shop", "-c",
                                              "select count(*) from orders"]),
            ("web straight to the database, IPv6", ["psql", "-X", "-At", "-h", self.shop.db.ip6, "-U", "shop", "-d",
                                                    "shop", "-c", "select count(*) from orders"]),
            ("ssh from web to api", ["ssh", "-n", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o",
                                     "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{api}"]),
        ]

    def test_mode(self):
        self.screen.heading("The policy, in test mode: nothing is refused, what would be is reported")
        text = POLICY.read_text()
        self.test_policy, self.enforce_policy = (self.shop.ctl.dir / name for name in
                                                 ("shop.yaml", "shop-enforce.yaml"))
        self.test_policy.write_text(re.sub(r"(?m)^mode: \w+", "mode: test", text))
        self.enforce_policy.write_text(re.sub(r"(?m)^mode: \w+", "mode: enforce", text))
        result = self.ctl("policy", "apply", self.test_policy)
        self.screen.check(result.code == 0, "applied on all hosts")
        self.screen.check("bulkheads x 12" in self.shop.orders().stdout, "the shop answers")
        for words, argv in self.moves():
            result = self.on(self.shop.web, *argv)
            self.screen.check("refused" not in result.stderr and "not permitted" not in result.stderr,
                              f"{words}: passes, since this is only a test")
        found = wait_until(lambda: {(v["verdict"], v["dst"]["port"]) for v in self.controller.violations()}
                           >= {("would-deny", 5432), ("would-deny", 22)}, 5, "would-deny records")
        self.ctl("violations", "--last", "8")
        self.screen.check(bool(found), "they are reported as would-deny")

    def enforce(self):
        self.screen.heading("From test to enforce")
        self.screen.command("$ sed 's/^mode: .*/mode: enforce/' shop.yaml >shop-enforce.yaml")
        result = self.ctl("policy", "apply", self.enforce_policy)
        outcome = self.on(self.shop.web, *self.moves()[0][1], show=False)
        self.screen.check(result.code == 0 and outcome.code != 0 and result.seconds < 1,
                          f"applied and enforced on all three hosts in {result.seconds * 1000:.0f} ms")

    def allowed(self):
        self.screen.heading("What the policy allows passes")
        self.screen.command(f"ctl$ curl http://{self.shop.web.ip4}:8080/orders")
        result = self.shop.orders()
        self.screen.output(result.stdout)
        self.screen.check("bulkheads x 12" in result.stdout, "visitors reach web, web reaches api, api reaches db")
        result = self.on(self.shop.ctl, "ssh-keyscan", "-T", "3", "-t", "ed25519", self.shop.api.ip4, limit=1)
        self.screen.check("ssh-ed25519" in result.stdout, "ssh from the management address passes (failsafe)")

    def refused(self):
        self.screen.heading("Lateral moves are refused at once, and each is on record while it happens")
        follow = self.controller.follow()
        self.screen.command("$ bulkheadctl violations -f -o json &    (its lines are shortened here, behind |)")
        time.sleep(0.3)
        for words, argv in self.moves():
            before, began = len(follow.poll()), time.monotonic()
            result = self.on(self.shop.web, *argv)
            at_once = result.code != 0 and result.seconds < 0.7
            said = "refused" in result.stderr.lower() or "not permitted" in result.stderr.lower()
            self.screen.check(at_once and said, f"{words}: refused after {result.seconds * 1000:.0f} ms")
            self.stream(follow, before, began)
        before, began = len(follow.poll()), time.monotonic()
        # Hand-made SYNs do not go through connect(); the guard on web's interface judges them all the same.
        result = self.on(self.shop.web, "nmap", "-n", "-Pn", "-sS", "-p", "22,80,443,5432,8000", self.shop.db.ip4,
                         limit=12)
        self.screen.check(len(re.findall(r"(?m)^\d+/tcp +filtered", result.stdout)) == 5,
                          f"a raw SYN scan of db from web does not leave web, in {result.seconds * 1000:.0f} ms")
        self.stream(follow, before, began, result.seconds + 1)  # lines are read when the scan is over
        follow.process.kill()

    def stream(self, follow, before, began, within=1):
        def fresh():
            return follow.poll()[before:]
        wait_until(fresh, 5, "a line of violations -f")
        time.sleep(0.15)
        for _, record in fresh()[:6]:
            print("    | " + self.line(record), flush=True)
        self.screen.check(fresh()[0][0] - began < within,
                          f"in `violations -f` {1000 * (fresh()[0][0] - began):.0f} ms after the command began")

    @staticmethod
    def line(record):
        process = record.get("process", {})
        return (f"{record['time'][11:23]} {record['host']} {record['direction']} "
                f"{record['src'].get('workload') or record['src']['ip']} -> "
                f"{record['dst'].get('workload') or record['dst']['ip']}:{record['dst']['port']} "
                f"{record['verdict']} by {record.get('rule', record['reason'])}"
                f" ({process.get('unit') or process.get('comm', '-')})")

    def run(self):
        began = time.monotonic()
        print("bulkheadctl stands for: nsenter --net=/run/netns/bh-demo-ctl "
              f"{os.path.relpath(program('bulkheadctl'))} --config {self.controller.state}/admin.yaml")
        for step in (self.enrol, self.serve, self.test_mode, self.enforce, self.allowed, self.refused):
            step()
        screen = self.screen
        screen.heading("What the hosts say of themselves")
        screen.command("db$ bulkheadctl --local agent status")
        screen.output(self.shop.agents["db"].local("agent", "status").check().stdout, 14)
        print(f"\n{screen.checks - len(screen.wrong)} of {screen.checks} checks as they should be, "
              f"in {time.monotonic() - began:.0f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--stop", action="store_true")
    options = parser.parse_args()
    # Also SIGINT, which a shell lets its background jobs ignore.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    screen = Screen()
    try:
        lab = demo_lab()  # clears what an earlier run left
    except RuntimeError:
        print("scripts/demo: another demo is under way", file=sys.stderr)
        return 1
    if options.stop:
        lab.close()
        print("The demo has ended.")
        return 0
    keep = False
    try:
        lab.open()
        demo = Demo(lab, screen)
        demo.run()
        keep = options.keep
        if keep:
            print("\nEverything runs on. Commands to try:\n")
            for command in demo.shop.commands_to_try():
                print(f"  {command}")
            print("\nTo end it: sudo scripts/demo --stop")
    except KeyboardInterrupt:
        print("\nscripts/demo: interrupted", file=sys.stderr)
        return 130
    except AssertionError as error:
        print(f"\nscripts/demo: {error}\n{lab.logs()}", file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        lab.leave() if keep else lab.close()
    if screen.wrong:
        print("not as it should be:\n" + "\n".join(f"  {text}" for text in screen.wrong), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
