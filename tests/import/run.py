#!/usr/bin/env python3
"""An EMQ X 4.4 with its users and rules in MySQL, imported and run against a real MariaDB.

    python3 tests/import/run.py --bin target/debug/nightjar [--only WORD]

The configuration is tests/import/emqx-4.4, the tables are mysql.sql. What differs from the fixture: the port of the
database, and listeners on free ports.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))
sys.path.insert(0, str(HERE.parent / "security"))

from blocking import Client, Failed, check, wire  # noqa: E402
from broker import Broker, BrokerError, clean_environment  # noqa: E402
from results import Results  # noqa: E402
from servers import MariaDb, Missing  # noqa: E402

CASES = []
# Rules of the fixture's acl.conf let 127.0.0.1 do everything.
ELSEWHERE = "127.0.0.2"


def case(fn):
    CASES.append((f"import/{fn.__name__}", fn))
    return fn


class Tables(MariaDb):
    def fill(self):
        self.run(f"create database mqtt; use mqtt;\n{(HERE / 'mysql.sql').read_text()}")


class Imported(Broker):
    """The broker with what `nightjar import` wrote."""

    def __init__(self, binary, port):
        super().__init__("nightjar", binary)
        source = self.dir / "emqx"
        shutil.copytree(HERE / "emqx-4.4", source)
        plugin = source / "plugins" / "emqx_auth_mysql.conf"
        text = plugin.read_text()
        check("auth.mysql.server = 127.0.0.1:3306" in text, "the fixture names another server")
        plugin.write_text(text.replace("127.0.0.1:3306", f"127.0.0.1:{port}"))
        done = subprocess.run([str(binary), "import", str(source / "emqx.conf"), "--out", str(self.dir / "etc"), "--output", "ndjson"],
                              capture_output=True, text=True, cwd=self.dir, env=clean_environment(), timeout=60, check=False)
        check(done.returncode == 0, f"import: {done.returncode}: {done.stdout}{done.stderr}")
        self.rows = [json.loads(line) for line in done.stdout.splitlines()]

    def _start_nightjar(self):
        free = [f"listeners.{kind}.default.bind=127.0.0.1:0" for kind in ("tcp", "ws")] + ["api.bind=127.0.0.1:0", "listeners.mqttsn.default.enable=false"]
        sets = [word for one in (*free, f"node.data_dir={self.data_dir}") for word in ("--set", one)]
        self._spawn([str(self.binary), "serve", *sets])
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for line in (self.dir / "stdout.log").read_text().splitlines():
                if line.startswith("nightjar ready:"):
                    self.endpoints = dict(word.split("=", 1) for word in line.split(":", 1)[1].split())
                    return
            check(self.process.poll() is None, f"it ended: {self.tail()}")
            time.sleep(0.05)
        raise Failed(f"no ready line: {self.tail()}")

    def client(self, name, user=None, password=None, rc=0, source=ELSEWHERE, **options):
        if user is not None:
            options.update(user=user, password=password)
        return Client(self.port("tcp"), name, rc=rc, source=source, **options)


@case
def users_of_the_table_get_in_and_nobody_else(node, _):
    node.client("a", "ann", b"secret").end()
    node.client("a4", "ann", b"secret", v=4).end()
    for user, password in (("ann", b"wrong"), ("ann", b""), ("nobody", b"secret"), ("empty", b""), ("' or '1'='1", b"secret"), (None, None)):
        client = node.client("b", user, password, rc=None)
        check(client.connack.rc in (0x86, 0x87), f"{user}: {client.connack}")
        client.drop()


@case
def rules_of_the_table_are_tried_from_the_last_row_on(node, _):
    with node.client("dev-1", "ann", b"secret") as ann, node.client("dev-2", "dashboard", b"shown") as other:
        for client, topic, allowed in (
                (ann, "sensors/hall", True), (ann, "sensors/secret/x", False), (other, "sensors/hall", False),
                (ann, "of/ann/x", True), (ann, "of/eve/x", False), (other, "of/dashboard/x", True),
                (ann, "near/a", True), (other, "near/a", True),
                (ann, "raw/#", True), (ann, "raw/a", False), (other, "raw/#", False),
                (ann, "nowhere", False)):
            got = client.subscribe(topic)
            check((got < 3) == allowed and (allowed or got == 0x87), f"subscribe {topic}: {got:#x}")
        for client, topic, allowed in (
                (ann, "up/dev-1", True), (ann, "up/dev-2", False), (other, "up/dev-2", True),
                (ann, "all/three", True), (other, "all/three", False), (ann, "both/wrong", False),
                (ann, "sensors/hall", False), (ann, "near/a", False)):
            got = client.publish(topic, b"x")
            check((got in (0, 0x10)) == allowed and (allowed or got == 0x87), f"publish {topic}: {got:#x}")


@case
def rules_of_acl_conf_come_before_the_table(node, _):
    with node.client("near", "ann", b"secret", source="127.0.0.1") as near:
        check(near.subscribe("anything/#") == 1, "127.0.0.1 may do everything")
    with node.client("shown", "dashboard", b"shown") as shown, node.client("ann", "ann", b"secret") as ann:
        check(shown.subscribe("$SYS/#") == 1 and ann.subscribe("$SYS/#") == 0x87, "$SYS is for the user dashboard")
        check(ann.subscribe("#") == 0x87, "# is for nobody")


@case
def superusers_of_the_table_skip_its_rules(node, _):
    with node.client("r", "root", b"rooted") as root:
        check(root.subscribe("sensors/secret/#") == 1, "subscribe")
        check(root.publish("sensors/secret/x", b"x") == 0, "publish")


@case
def a_changed_row_counts_for_the_next_connection(node, database):
    database.run("use mqtt; update mqtt_user set password = sha2('fresh', 256) where username = 'ann'")
    client = node.client("a", "ann", b"secret", rc=None)
    check(client.connack.rc in (0x86, 0x87), client.connack)
    client.drop()
    node.client("a", "ann", b"fresh").end()


@case
def without_the_database_nobody_gets_in(node, database):
    """A database that is gone stops the chain: unavailable, not a wrong password, and not let in."""
    database.stop()
    client = node.client("c", "ann", b"fresh", rc=None)
    check(client.connack.rc == 0x88, client.connack)
    client.drop()
    database.start()
    end = time.monotonic() + 30
    while True:
        client = node.client("c", "ann", b"fresh", rc=None)
        client.drop()
        if client.connack.rc == 0:
            return
        check(time.monotonic() < end, f"not let in again: {client.connack}")
        time.sleep(0.3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    try:
        with Tables() as database:
            node = Imported(pathlib.Path(args.bin).resolve(), database.port)
            try:
                node.start()
                for name, fn in CASES:
                    if args.only not in name:
                        continue
                    begin = time.monotonic()
                    try:
                        fn(node, database)
                        results.ok(name, time.monotonic() - begin)
                    except (Failed, OSError, wire.WireError) as error:
                        results.fail(name, str(error) or repr(error), time.monotonic() - begin)
            finally:
                node.remove()
    except Missing as why:
        results.skip("import", str(why))
    except (Failed, BrokerError, subprocess.SubprocessError) as error:
        results.fail("import", str(error))
    return results.close("import")


if __name__ == "__main__":
    sys.exit(main())
