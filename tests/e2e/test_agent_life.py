# SPDX-License-Identifier: Apache-2.0
"""The kernel enforces alone: agents that are killed, restarted, stopped, detached, or may not start at all."""

import json
import signal
import subprocess
import time

from harness.bulkhead import Agent, Readiness, deploy
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import AppTest, policy


class AgentLife(AppTest):
    def setUp(self):
        if self.agent.process.poll() is not None:
            self.agent.start()
            wait_until(lambda: self.controller.agent_status("app").get("connected"), 10, "reconnected")
        self.controller.apply(policy())

    def enforced(self):
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertRefused(self.guest.probe("tcp", self.app.ip6, 7001), "ECONNREFUSED")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertPasses(self.guest.probe("udp", self.app.ip6, 7000))

    def test_enforces_after_sigkill_and_records_resume(self):
        self.enforced()
        self.agent.kill()
        self.enforced()
        self.agent.start()
        self.enforced()
        marker = self.guest.probe("tcp", self.app.ip4, 7000)["local_port"]
        self.await_record(self.controller.records, 10, src__port=marker, event="close")
        seqs = [record["seq"] for record in self.controller.records()]
        self.assertEqual(len(seqs), len(set(seqs)))

    def test_never_a_moment_without_enforcement_during_restarts(self):
        loop = self.guest.pipe("python3", "-c", """
import socket, sys, time
passed = tries = 0
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    tries += 1
    try:
        socket.create_connection((sys.argv[1], 7001), 1).close()
        passed += 1
    except ConnectionRefusedError:
        pass
print(tries, passed)
""", self.app.ip4, "4")
        for _ in range(2):
            self.agent.kill()
            self.agent.start()
        self.agent.stop()
        self.agent.start()
        tries, passed = map(int, loop.stdout.readline().split())
        self.assertGreater(tries, 100)
        self.assertEqual(passed, 0, f"of {tries}")

    def test_live_connection_survives_a_restart(self):
        held = [self.guest.hold(self.app.ip4, 7000), self.guest.hold(self.app.ip6, 7000)]
        for session in held:
            self.assertTrue(session.exchange()["ok"])
        self.assertEqual(self.agent.stop(), 0)
        for session in held:
            self.assertTrue(session.exchange()["ok"])
        self.agent.start()
        for session in held:
            self.assertTrue(session.exchange()["ok"])
            session.close()

    def test_an_address_that_moves_to_a_peer_while_no_agent_runs_can_be_reached(self):
        """As a cluster's address does; what the kernel was told of the host's own addresses is old then."""
        moved = "10.77.0.200"
        self.app.run("ip", "addr", "add", f"{moved}/24", "dev", "eth0", daemon=True).check()
        self.addCleanup(self.app.run, "ip", "addr", "del", f"{moved}/24", "dev", "eth0", daemon=True)
        self.app.serve("tcp", 7444, moved)
        wait_until(lambda: self.app.probe("tcp", moved, 7444).get("ok"), what="the host to be served by itself")
        time.sleep(1.2)  # the agent looks at addresses at once, and once a second
        self.agent.kill()
        self.app.run("ip", "addr", "del", f"{moved}/24", "dev", "eth0", daemon=True).check()
        self.guest.run("ip", "addr", "add", f"{moved}/24", "dev", "eth0", daemon=True).check()
        self.addCleanup(self.guest.run, "ip", "addr", "del", f"{moved}/24", "dev", "eth0", daemon=True)
        self.guest.serve("tcp", 7445, moved)
        self.assertPasses(self.app.probe("tcp", moved, 7445))

    def test_clean_stop_leaves_enforcement(self):
        self.assertEqual(self.agent.stop(), 0)
        self.enforced()

    def test_records_of_the_time_without_an_agent_are_not_lost_in_silence(self):
        self.agent.kill()
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001, text="unseen"), "ECONNREFUSED")
        attempt = self.guest.probe("tcp", self.app.ip4, 7000)["local_port"]
        self.agent.start()
        # The ring keeps what fits while nobody reads; what does not fit must come as a gap.
        wait_until(lambda: [record for record in self.agent.records()
                            if record["kind"] == "gap" or record.get("src", {}).get("port") == attempt],
                   10, "the flow or a gap")


    def test_agents_that_are_killed_while_they_write_lose_no_connection(self):
        """What is in the ring when it is killed is recorded by the next one: once, but for the few that it was about."""
        kills = 3
        load = self.guest.pipe("python3", "-c", """
import json, socket, sys, time
ports, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    with socket.create_connection((sys.argv[1], 7000), 5) as connection:
        ports.append(connection.getsockname()[1])
    time.sleep(0.0005)
print(json.dumps(ports))
""", self.app.ip4, "5")
        for _ in range(kills):
            time.sleep(0.6)
            self.agent.kill()
            self.agent.start()
        made = json.loads(load.stdout.readline())
        self.assertGreater(len(made), 500)

        def recorded(event):
            return [record for record in self.agent.records()
                    if record.get("event") == event and record["src"].get("ip") == self.guest.ip4
                    and record.get("dst", {}).get("port") == 7000]
        wait_until(lambda: set(made) <= {record["src"]["port"] for record in recorded("close")}, 15,
                   "the end of every connection to be recorded")
        opened = [record for record in recorded("open") if record["src"]["port"] in set(made)]
        self.assertEqual({record["src"]["port"] for record in opened}, set(made))
        self.assertLessEqual(len(opened) - len({record["flow_id"] for record in opened}), 8 * kills)


class Watchdog(AppTest):
    def test_is_told_while_the_work_goes_on_and_not_else(self):
        self.agent.stop()
        service_manager = Readiness(self.app.dir / "watchdog.notify")
        process = self.app.start(*self.agent.argv, daemon=True, log="watchdog.log",
                                 env={"NOTIFY_SOCKET": str(service_manager.path)})
        try:
            service_manager.wait(process, self.app.dir / "watchdog.log", 30)
            for _ in range(3):
                self.assertTrue(service_manager.until("WATCHDOG=1", 10))
            process.send_signal(signal.SIGSTOP)
            said = [service_manager.until("WATCHDOG=1", 2) for _ in range(5)]  # a few were said before it stopped
            self.assertFalse(said[-1])
            process.send_signal(signal.SIGCONT)
            self.assertTrue(service_manager.until("WATCHDOG=1", 10))
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)
            service_manager.close()
        self.agent.start()


class Detach(AppTest):
    def test_needs_no_valid_configuration(self):
        self.controller.apply(policy())
        self.agent.stop()
        valid = self.agent.config.read_text()
        try:
            self.agent.config.write_text(valid + "guard: sometimes\nno-such-key: 1\n")
            said = self.agent.detach()
        finally:
            self.agent.config.write_text(valid)
        self.assertEqual(said.code, 0, said)
        self.assertIn("only pin_dir, cgroup and state_dir are used", said.stderr)
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7001))
        self.agent.start()

    def test_detach_removes_everything(self):
        self.controller.apply(policy())
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertEqual(len(self.lab.pins()), 1)
        self.assertNotEqual(self.agent.detach().code, 0)
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")  # not while the agent runs
        self.agent.stop()
        self.assertEqual(self.agent.detach().check().stderr, "")
        self.assertEqual(self.lab.pins(), [])
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7001))
        wait_until(lambda: self.attached() == "", 3, "no program on the cgroup")
        again = self.agent.detach()
        self.assertEqual(again.code, 0, again)
        self.agent.start()
        agent_id = self.controller.agent_status("app")["agent_id"]
        wait_until(lambda: self.controller.stored_acts(agent_id, "agent.detach") > 0, 20, "an audit record of it")

    def attached(self):
        return subprocess.run(["bpftool", "cgroup", "show", str(self.app.cgroup)], capture_output=True, text=True,
                              check=True).stdout.strip()


class NoCapability(LabTest):
    @classmethod
    def arrange(cls):
        cls.host = cls.lab.add_host("bare")

    def test_says_what_is_missing_and_attaches_nothing(self):
        policies = self.host.dir / "policies"
        policies.mkdir()
        (policies / "all.yaml").write_text(policy())
        agent = Agent(self.host, {"role": "app"}, policy_dir=policies)
        for wrapper in (["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
                        ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"]):
            with self.subTest(wrapper=wrapper):
                result = self.host.run(*wrapper, *agent.argv, daemon=True, timeout=10)
                self.assertEqual(result.code, 1, result)
                self.assertRegex(result.stderr, r"CAP_[A-Z_]+")
                self.assertEqual(self.lab.pins(), [])
                shown = self.host.run("bpftool", "cgroup", "show", self.host.cgroup, daemon=True).check()
                self.assertEqual(shown.stdout.strip(), "")

    def test_a_cgroup_that_is_none_is_refused(self):
        agent = Agent(self.host, {"role": "app"}, name="lost")
        result = self.host.run(*agent.argv, "--cgroup", self.host.dir, daemon=True, timeout=10)
        self.assertIn(result.code, (1, 3), result)
        self.assertIn(str(self.host.dir), result.stderr)
        self.assertEqual(self.lab.pins(), [])


class TwoAgents(LabTest):
    """Two agents in one network namespace, on cgroups of their own."""

    @classmethod
    def arrange(cls):
        cls.both = cls.lab.add_host("both")
        cls.guest = cls.lab.add_host("guest", 50)
        cls.agents = {}
        for name, port in (("left", 7000), ("right", 7001)):
            policies = cls.both.dir / f"policies-{name}"
            policies.mkdir()
            (policies / "all.yaml").write_text(policy(allow=f"  - {{id: own, from: any, service: [tcp/{port}]}}"))
            (cls.both.cgroup / name).mkdir()
            cls.agents[name] = Agent(cls.both, {"role": "app"}, policy_dir=policies, name=name,
                                     cgroup=cls.both.cgroup / name).start()
            for own in (7000, 7001):
                cls.both.serve("tcp", own + (0 if name == "left" else 100), unit=f"{name}/echo.service")

    def test_each_judges_its_own_and_detaches_only_its_own(self):
        # left serves 7000, 7001 and allows 7000; right serves 7100, 7101 and allows 7001, which is left's.
        expected = {7000: True, 7001: False, 7100: False, 7101: False}
        for port, passes in expected.items():
            with self.subTest(port=port):
                outcome = self.guest.probe("tcp", self.both.ip4, port)
                self.assertPasses(outcome) if passes else self.assertRefused(outcome, "ECONNREFUSED")
        self.await_record(self.agents["left"].violations, dst__port=7001, verdict="denied")
        self.await_record(self.agents["right"].violations, dst__port=7100, verdict="denied")
        self.assertEqual([record for record in self.agents["left"].records()
                          if record.get("dst", {}).get("port") in (7100, 7101)], [])
        self.assertEqual(len(self.lab.pins()), 2)

        self.agents["left"].stop()
        self.agents["left"].detach().check()
        self.assertEqual(len(self.lab.pins()), 1)
        self.assertPasses(self.guest.probe("tcp", self.both.ip4, 7001))
        self.assertRefused(self.guest.probe("tcp", self.both.ip4, 7100), "ECONNREFUSED")
        self.assertRefused(self.guest.probe("tcp", self.both.ip4, 7101), "ECONNREFUSED")

    def test_a_process_of_neither_is_not_judged(self):
        self.both.serve("tcp", 7200, unit="elsewhere.service")
        self.assertPasses(self.guest.probe("tcp", self.both.ip4, 7200))


class ControllerDown(AppTest):
    def test_enforces_spools_and_delivers_exactly_once(self):
        self.controller.apply(policy())
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.await_record(self.controller.violations, verdict="denied")
        self.controller.kill()
        ports = []
        for _ in range(20):
            self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
            ports.append(self.guest.probe("tcp", self.app.ip4, 7000)["local_port"])
        # An agent that is restarted meanwhile takes its policy and its records from disk.
        self.agent.kill()
        self.agent.start()
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        time.sleep(0.5)
        self.controller.start()
        wait_until(lambda: set(ports) <= {record.get("src", {}).get("port") for record in
                                          self.controller.records()}, 20, "spooled flows arrive", 0.3)
        seqs = self.controller.stored_seqs(self.agent.status()["agent_id"])
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)), "from 1, without holes, each once")

    def test_controller_restart_keeps_policy_inventory_and_tokens(self):
        self.controller.apply(policy())
        token = self.controller.token("--label", "role=late")
        before = self.controller.ctl("policy", "show").check().stdout
        self.assertEqual(self.controller.stop(), 0)
        self.controller.start()
        self.assertEqual(self.controller.ctl("policy", "show").check().stdout, before)
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 15, "the agent reconnects")
        late = Agent(self.lab.add_host("late"), {}, self.controller)
        late.argv += ["--join", token]
        late.start()
        wait_until(lambda: self.controller.agent_status("late").get("connected"), 10, "a token outlives a restart")
        used = Agent(self.lab.add_host("used"), {}, self.controller)
        result = used.host.run(*used.argv, "--join", token, daemon=True, timeout=10)
        self.assertNotEqual(result.code, 0, "a token is good for one use")
        self.assertFalse([pin for pin in self.lab.pins() if "used" in str(pin)], "programs of an agent that never ran")
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")


class StateDiskFull(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, _ = deploy(cls.lab, {})
        cls.app = cls.lab.add_host("app")
        cls.guest = cls.lab.add_host("guest", 50)
        cls.agent = Agent(cls.app, {"role": "app"}, cls.controller)
        # A private mount namespace: the small file system is seen by the agent alone and goes with it.
        cls.agent.state.mkdir()
        cls.agent.argv = ["unshare", "--mount", "sh", "-c",
                          f'mount -t tmpfs -o size=1m tmpfs {cls.agent.state} && exec "$@"', "sh", *cls.agent.argv]
        cls.agent.enrol()
        for port in (7000, 7001):
            cls.app.serve("tcp", port)

    def test_enforces_and_counts_what_it_could_not_write(self):
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 15, "enrolled, which takes room")
        self.controller.apply(policy())
        full = f"/proc/{self.agent.process.pid}/root{self.agent.state}/ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={full}", "bs=64k"], stderr=subprocess.DEVNULL, check=False)
        for _ in range(5):
            self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
            self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertIsNone(self.agent.process.poll(), self.agent.log())
        subprocess.run(["rm", full], check=True)
        self.guest.probe("tcp", self.app.ip4, 7000)
        gap = self.await_record(self.controller.records, 15, kind="gap")
        self.assertGreater(gap["lost"]["count"], 0)


SERVE_ONE = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
server.close()
while data := connection.recv(100):
    connection.sendall(data)
"""
CUT = """
version: 1
segment: server
selector: {role: server}
mode: enforce
inbound: deny
outbound: deny
sessions: cut
allow:
  - {id: in, from: {cidr: CALLER/32}, service: [tcp/PORT]}
"""


class RestartWithCut(LabTest):
    @classmethod
    def arrange(cls):
        cls.server = cls.lab.add_host("server")
        cls.caller = cls.lab.add_host("caller", 50)
        cls.policies = cls.server.dir / "policies"
        cls.policies.mkdir()
        cls.allow(7300)
        cls.agent = Agent(cls.server, {"role": "server"}, policy_dir=cls.policies).start()

    @classmethod
    def allow(cls, port):
        (cls.policies / "policy.yaml").write_text(CUT.replace("CALLER", cls.caller.ip4).replace("PORT", str(port)))

    def test_what_outlived_its_listener_lives_while_it_is_allowed(self):
        self.server.start("python3", "-c", SERVE_ONE, "7300", unit="one.service")
        wait_until(lambda: self.server.listens(7300), 5, "a listener")
        session = self.caller.hold(self.server.ip4, 7300)
        self.assertTrue(session.exchange()["ok"])
        wait_until(lambda: not self.server.listens(7300), 5, "the listener to go")
        for end in (self.agent.stop, self.agent.kill):
            end()
            self.agent.start()
            time.sleep(1.5)  # a walk at the start, and another one a second later
            self.assertTrue(session.exchange()["ok"])
        self.allow(7301)
        wait_until(lambda: not session.exchange()["ok"], 5, "the end of what is not allowed either way")
