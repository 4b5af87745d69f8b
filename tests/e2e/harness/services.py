# SPDX-License-Identifier: Apache-2.0
"""What a host with systemd and our packages has, for bulkhead-setup: programs in PATH, and a systemctl that (re)starts."""

import os
import signal
from pathlib import Path

from .bulkhead import REPOSITORY, program
from .lab import Host, Result

SYSTEMCTL = """#!/bin/sh
# start or restart NAME.service, or whether it is-failed; everything else is agreed to.
here=$(dirname "$0")
case $1 in
  start | restart) ;;
  is-failed) [ ! -e "/proc/$(cat "$here/${3%.service}.pid")/exe" ]; exit ;;
  *) exit 0 ;;
esac
name=${2%.service}
if [ -e "$here/$name.pid" ]; then
  pid=$(cat "$here/$name.pid")
  [ "$1" = restart ] || [ ! -e "/proc/$pid" ] || exit 0
  kill "$pid" && while [ -e "/proc/$pid/cmdline" ]; do sleep 0.05; done
fi
case $name in bulkheadd) config=agent ;; *) config=controller ;; esac
"$here/$name" --config "$here/../etc/$config.yaml" >>"$here/../$name.log" 2>&1 </dev/null &
echo $! >"$here/$name.pid"
"""


class Services:
    """A host on which bulkhead-setup is run. The configuration begins as the lab's: nothing of the machine is touched."""

    def __init__(self, host: Host, programs):
        self.host, self.dir = host, host.dir / "services"
        self.bin, self.etc = self.dir / "bin", self.dir / "etc"
        for folder in (self.bin, self.etc, self.dir / "home"):
            folder.mkdir(parents=True)
        for name in programs:
            (self.bin / name).symlink_to(program(name))
        if "bulkheadctl" in programs:
            (self.bin / "bulkheadctl").unlink()
            self._script("bulkheadctl", f'#!/bin/sh\nexec {program("bulkheadctl")} --socket {self.dir}/agent.sock "$@"\n')
        self._script("systemctl", SYSTEMCTL)
        (self.etc / "controller.yaml").write_text(f"state_dir: {self.dir}/controller\n")
        (self.etc / "agent.yaml").write_text(
            f"hostname: {host.name}\ncgroup: {host.cgroup}\nstate_dir: {self.dir}/agent\n"
            f"socket: {self.dir}/agent.sock\n")
        host.lab.on_close(self._end)

    def setup(self, *arguments, stdin=None, **more) -> Result:
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.dir / "home"),
                       "XDG_CONFIG_HOME": "", "BULKHEAD_SETUP_ETC": str(self.etc),
                       "BULKHEAD_SETUP_CONTROLLER_STATE": f"{self.dir}/controller",
                       "BULKHEAD_SETUP_AGENT_STATE": f"{self.dir}/agent", **more}
        return self.host.run(REPOSITORY / "packaging/setup/bulkhead-setup", *arguments, daemon=True, timeout=60,
                             env=environment, stdin=stdin)

    def ctl(self, *arguments) -> Result:
        return self.host.run(self.bin / "bulkheadctl", *arguments, daemon=True,
                             env={"HOME": str(self.dir / "home"), "XDG_CONFIG_HOME": ""})

    def _script(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def _end(self):
        for file in self.bin.glob("*.pid"):
            try:
                os.kill(int(file.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass
        if (self.bin / "bulkheadd").exists():
            self.host.run(self.bin / "bulkheadd", "--config", Path(self.etc / "agent.yaml"), "--detach", daemon=True)
