#!/usr/bin/env python3
"""The Debian package: installed in a container, started there without systemd, upgraded, removed, purged.

    python3 tests/packages/run.py --deb nightjar.deb --target target
"""

import argparse
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))
sys.path.insert(0, str(HERE.parent / "docker"))

from blocking import Client, Failed, check, until  # noqa: E402
from broker import free_port  # noqa: E402
from engine import DockerError, Engine, Missing  # noqa: E402
from results import Results  # noqa: E402

CASES = []


def case(fn):
    CASES.append((f"packages/{fn.__name__}", fn))
    return fn


class Machine:
    """A Debian in a container, with the package copied in."""

    def __init__(self, engine, deb, target):
        self.engine, self.name, self.port = engine, engine.name("machine"), free_port()
        engine.run("run", "-d", "--name", self.name, "-p", f"127.0.0.1:{self.port}:1883", engine.base(target), "sleep", "600")
        engine.run("cp", deb, f"{self.name}:/nightjar.deb")

    def sh(self, command, want=0):
        done = self.engine.run("exec", self.name, "sh", "-c", command, check=False)
        check(done.returncode == want, f"{command}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()


@case
def installs_with_its_folders_and_user(machine):
    machine.sh("dpkg -i /nightjar.deb")
    check(machine.sh("stat -c '%U:%G %a' /var/lib/nightjar /var/log/nightjar /etc/nightjar").splitlines() ==
          ["nightjar:nightjar 750", "nightjar:nightjar 750", "root:nightjar 750"], "owners of the folders")
    check("/usr/sbin/nologin" in machine.sh("getent passwd nightjar"), "the user can log in")
    machine.sh("test -f /lib/systemd/system/nightjar.service -o -f /usr/lib/systemd/system/nightjar.service")
    conf = machine.sh("dpkg-query -W -f '${Conffiles}' nightjar")
    check("/etc/nightjar/nightjar.toml" in conf and "/etc/nightjar/acl.conf" in conf, conf)


@case
def starts_without_systemd_as_its_own_user(machine):
    machine.sh("setpriv --reuid nightjar --regid nightjar --clear-groups nightjar check --config /etc/nightjar/nightjar.toml")
    machine.engine.run("exec", "-d", "-w", "/var/lib/nightjar", "-u", "nightjar", "-e", "NIGHTJAR_AUTH__ALLOW_ANONYMOUS=true",
                       machine.name, "nightjar", "serve")
    # Any administrator finds the node by the configuration of the package.
    until(lambda: machine.sh("nightjar healthcheck >/dev/null 2>&1; echo $?") == "0", "healthy", 20)
    with Client(machine.port, "packaged") as client:
        check(client.publish("a", b"kept", retain=True) in (0, 0x10), "publish")
    check("running" in machine.sh("nightjar ctl status"), "ctl status")
    machine.sh("ls /var/lib/nightjar/store >/dev/null")


@case
def a_changed_configuration_survives_an_upgrade_and_a_removal(machine):
    machine.sh("echo '# mine' >>/etc/nightjar/nightjar.toml")
    machine.sh("dpkg -i --force-confold /nightjar.deb")
    check("# mine" in machine.sh("cat /etc/nightjar/nightjar.toml"), "the configuration was replaced")
    machine.sh("dpkg -r nightjar")
    machine.sh("test -f /etc/nightjar/nightjar.toml && test -d /var/lib/nightjar && ! test -e /usr/bin/nightjar")


@case
def a_purge_leaves_nothing(machine):
    machine.sh("kill $(pidof nightjar) 2>/dev/null; sleep 1; dpkg -P nightjar")
    machine.sh("! test -e /etc/nightjar && ! test -e /var/lib/nightjar && ! test -e /var/log/nightjar && ! getent passwd nightjar")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deb", required=True)
    parser.add_argument("--target", required=True)
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    try:
        with Engine() as engine:
            machine = Machine(engine, args.deb, args.target)
            for name, fn in CASES:
                begin = time.monotonic()
                try:
                    fn(machine)
                    results.ok(name, time.monotonic() - begin)
                except (Failed, DockerError, OSError) as error:
                    results.fail(name, str(error) or repr(error), time.monotonic() - begin)
    except Missing as why:
        results.skip("packages", str(why))
    except DockerError as error:
        results.fail("packages", str(error))
    return results.close("packages")


if __name__ == "__main__":
    sys.exit(main())
