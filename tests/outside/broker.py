"""Starts and stops the broker under test, each time on free loopback ports with a data folder of its own.

Nightjar is what the tests are about. Mosquitto stands in for it with `--broker mosquitto`: a second
opinion on the tests themselves.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# How long a debug build may take to print its ready line; the target for a release build is 100 ms.
READY = 60.0

LISTENERS = ("tcp", "tls", "ws", "wss")

# Settings of Nightjar by profile: what the rows of a profile need beside the defaults.
PROFILES = {
    # A second listener whose [mqtt] differs.
    "default": """
[listeners.tcp.limited]
bind = "127.0.0.1:0"
[listeners.tcp.limited.mqtt]
max_qos = 0
max_packet_size = "1KiB"
retain_available = false
server_keep_alive = "7s"
""",
    # What 5.0 lets a server leave out, left out.
    "limits": """
[mqtt]
max_qos = 1
retain_available = false
wildcard_subscription = false
shared_subscription = false
subscription_identifiers = false
""",
    # Sizes and windows so small that a test reaches them.
    "small": """
[mqtt]
max_packet_size = "2KiB"
max_client_id_len = 30
max_topic_levels = 8
max_topic_alias = 4
max_inflight = 3
receive_maximum = 5
max_awaiting_rel = 5
max_queue_len = 10
max_subscriptions = 20
""",
    # Times so short that a test can wait for them.
    "times": """
[mqtt]
connect_timeout = "2s"
max_session_expiry = "2s"
session_expiry_3x = "2s"
server_keep_alive = "2s"
message_expiry = "2s"
""",
    "strict": """
[mqtt]
client_leniency = "strict"
""",
    # A queue that refuses when full.
    "reject": """
[mqtt]
max_queue_len = 5
queue_policy = "reject"
backpressure_timeout = "1s"
""",
    "retry": """
[mqtt]
retry_interval = "1s"
""",
    "drop_newest": """
[mqtt]
max_queue_len = 5
queue_policy = "drop_newest"
queue_qos0 = false
""",
    "bytes": """
[mqtt]
max_queue_bytes = "64KiB"
""",
    "retained": """
[retained]
max_messages = 3
max_payload = "1KiB"
expiry = "3s"
""",
    **{f"shared_{strategy}": f"""
[mqtt]
shared_strategy = "{strategy}"
""" for strategy in ("random", "sticky", "local", "hash_client_id", "hash_topic")},
    "acl": """
[acl]
no_match = "allow"
[[acl.sources]]
kind = "file"
path = "{dir}/acl.conf"
""",
    "acl_disconnect": """
[acl]
no_match = "allow"
deny_action = "disconnect"
[[acl.sources]]
kind = "file"
path = "{dir}/acl.conf"
""",
}

ACL = """%% Rules of the tests: first match wins.
{allow, {user, "reader"}, subscribe, ["secret/#"]}.
{deny, {clientid, "banned-client"}, all, ["mine/#"]}.
{deny, all, publish, ["denied/#", "half/pub"]}.
{deny, all, subscribe, ["denied/#", "secret/#", {eq, "literal/#"}]}.
{allow, all}.
"""


class BrokerError(Exception):
    """The broker did not start or did not stop as it should."""


def clean_environment():
    """The environment without settings of Nightjar: the tests' own configuration is all there is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NIGHTJAR_")}


def free_port(kind=socket.SOCK_STREAM):
    """A port for a server that starts later: below those that the system gives to connections, which may take any of them
    until then."""
    try:
        first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 32768
    for _ in range(200):
        port = random.SystemRandom().randrange(10240, max(first, 10241))
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    """One running broker process. `endpoints` maps "tcp:default" and so on to "127.0.0.1:PORT"."""

    def __init__(self, kind, binary, profile="default", extra="", folder=None):
        self.kind, self.binary, self.profile = kind, binary, profile
        self.dir = pathlib.Path(folder or tempfile.mkdtemp(prefix=f"nightjar-test-{profile}-"))
        self.data_dir = self.dir / "data"
        self.extra = extra
        self.process = None
        self.endpoints = {}
        self.started_in = None
        # More of the environment.
        self.environment = {}

    # ---- start ----

    def start(self):
        if self.kind == "mosquitto":
            self._start_mosquitto()
        else:
            self._start_nightjar()
        return self

    def config(self):
        """The configuration file for Nightjar: every transport on a free port of loopback."""
        text = f'[node]\nname = "test@127.0.0.1"\ndata_dir = "{self.data_dir}"\n'
        for transport in LISTENERS:
            text += f'[listeners.{transport}.default]\nbind = "127.0.0.1:0"\n'
        text += '[api]\nbind = "127.0.0.1:0"\n'
        text += PROFILES[self.profile].replace("{dir}", str(self.dir)) + self.extra
        if "[listeners.mqttsn.default]" not in text:
            text += '[listeners.mqttsn.default]\nbind = "127.0.0.1:0"\n'
        return text

    def _spawn(self, command):
        out = open(self.dir / "stdout.log", "ab")
        err = open(self.dir / "stderr.log", "ab")
        with out, err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.dir,
                                            env={**clean_environment(), **self.environment})

    def _start_nightjar(self):
        (self.dir / "acl.conf").write_text(ACL)
        config = self.dir / "nightjar.toml"
        config.write_text(self.config())
        begin = time.monotonic()
        offset = (self.dir / "stdout.log").stat().st_size if (self.dir / "stdout.log").exists() else 0
        self._spawn([str(self.binary), "serve", "--config", str(config)])
        while time.monotonic() - begin < READY:
            text = (self.dir / "stdout.log").read_bytes()[offset:].decode(errors="replace")
            for line in text.splitlines(keepends=True):
                if line.startswith("nightjar ready:") and line.endswith("\n"):
                    self.started_in = time.monotonic() - begin
                    self.endpoints = dict(word.split("=", 1) for word in line.split(":", 1)[1].split())
                    self._check_listeners_json()
                    return
            if self.process.poll() is not None:
                raise BrokerError(f"nightjar ended with {self.process.returncode} before it was ready: {self.tail()}")
            time.sleep(0.01)
        self.kill()
        raise BrokerError(f"nightjar printed no ready line within {READY:g} s: {self.tail()}")

    def _check_listeners_json(self):
        told = json.loads((self.data_dir / "listeners.json").read_text())
        for name, address in self.endpoints.items():
            if told.get(name) != address:
                raise BrokerError(f"listeners.json says {told.get(name)} for {name}, the ready line {address}")

    def _start_mosquitto(self):
        self.data_dir.mkdir(parents=True, exist_ok=True)
        key, cert = self.data_dir / "server.key", self.data_dir / "ca.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = ["per_listener_settings false", "allow_anonymous true", "max_inflight_messages 32",
                 "max_queued_messages 1000", "max_packet_size 1048576", "user root",
                 "persistence false"]
        for transport in LISTENERS:
            port = free_port()
            self.endpoints[f"{transport}:default"] = f"127.0.0.1:{port}"
            lines += [f"listener {port} 127.0.0.1", f"protocol {'websockets' if 'ws' in transport else 'mqtt'}"]
            if transport in ("tls", "wss"):
                lines += [f"certfile {cert}", f"keyfile {key}"]
        config = self.dir / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        binary = self.binary or shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not binary:
            raise BrokerError("mosquitto is not installed (Debian package mosquitto)")
        self._spawn([binary, "-c", str(config)])
        begin = time.monotonic()
        for address in self.endpoints.values():
            host, _, port = address.rpartition(":")
            while True:
                try:
                    socket.create_connection((host, int(port)), 1).close()
                    break
                except OSError:
                    if time.monotonic() - begin > READY or self.process.poll() is not None:
                        raise BrokerError(f"mosquitto did not start: {self.tail()}") from None
                    time.sleep(0.02)
        self.started_in = time.monotonic() - begin

    # ---- what tests ask ----

    def port(self, transport):
        return int(self.endpoints[f"{transport}:default"].rpartition(":")[2])

    def ca_file(self):
        """The certificate that a client must trust: the broker's own CA, or its self-signed certificate."""
        found = [p for p in sorted(self.data_dir.rglob("*"))
                 if p.suffix in (".pem", ".crt") and "BEGIN CERTIFICATE" in p.read_text(errors="replace")]
        if not found:
            raise BrokerError(f"no certificate under {self.data_dir}")
        return next((p for p in found if "ca" in p.stem.lower().split("-")), found[0])

    def tail(self, lines=8):
        text = ""
        for name in ("stderr.log", "stdout.log"):
            path = self.dir / name
            if path.exists():
                text += "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
        return text.strip() or "(no output)"

    def output(self):
        return b"".join((self.dir / name).read_bytes() for name in ("stdout.log", "stderr.log"))

    def panic(self):
        """The first panic in the output with the line behind it, or nothing."""
        lines = self.output().decode(errors="replace").splitlines()
        at = next((i for i, line in enumerate(lines) if "panicked at" in line), None)
        return "" if at is None else " ".join(lines[at:at + 2])

    def alive(self):
        return self.process is not None and self.process.poll() is None

    # ---- end ----

    def stop(self, timeout=8.0):
        """SIGTERM, by process id; returns the exit code. A broker that does not stop is killed and is an error."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerError(f"the broker did not end within {timeout:g} s of SIGTERM") from None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def remove(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
