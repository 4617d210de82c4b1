"""The broker as a process: what it prints, its exit codes, signals, and its own commands beside outside ones."""

import contextlib
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

from broker import Broker, clean_environment

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "raw"))

import wire  # noqa: E402

CASES = []
LIMIT = 20


class Failed(Exception):
    """The process did something else than it should."""


def case(fn):
    CASES.append((f"process/{fn.__name__}", fn))
    return fn


def check(condition, what):
    if not condition:
        raise Failed(what)


@contextlib.contextmanager
def running(binary, extra="", profile="default"):
    broker = Broker("nightjar", binary, profile, extra)
    try:
        yield broker.start()
    finally:
        broker.remove()


def run(binary, *words, text=None, cwd=None):
    """(exit code, stdout, stderr) of one command."""
    done = subprocess.run([binary, *words], input=text, stdin=None if text is not None else subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LIMIT, check=False, cwd=cwd,
                          env=clean_environment())
    return done.returncode, done.stdout, done.stderr


class Wire:
    """A blocking client of a few packets, so that these cases need no library."""

    def __init__(self, broker, v=5, cid="process", **options):
        self.v = v
        self.sock = socket.create_connection(("127.0.0.1", broker.port("tcp")), LIMIT)
        self.sock.settimeout(LIMIT)
        self.file = self.sock.makefile("rb")
        self.sock.sendall(wire.connect(cid, v, **options))
        self.connack = self.packet()
        check(self.connack and self.connack.kind == wire.CONNACK and self.connack.rc == 0, self.connack)

    def packet(self):
        """The next packet, None at the end."""
        try:
            first = self.file.read(1)
        except ConnectionError:
            return None
        if not first:
            return None
        length = shift = 0
        while True:
            digit = self.file.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        return wire.parse(first[0] >> 4, first[0] & 15, self.file.read(length), self.v)

    def send(self, data):
        self.sock.sendall(data)

    def alive(self):
        self.send(wire.pingreq())
        return self.packet().kind == wire.PINGRESP


# The HTTP port has a fixed number by default.
API = '[api]\nbind = "127.0.0.1:0"\n'


@case
def ready_line_and_listeners_json(binary):
    """All four transports are named in both, on ports that answer (`Broker.start` compares the two)."""
    with running(binary) as broker:
        check(set(broker.endpoints) >= {f"{t}:default" for t in ("tcp", "tls", "ws", "wss")}, broker.endpoints)
        for name, address in broker.endpoints.items():
            host, _, port = address.rpartition(":")
            if name.startswith("mqttsn:"):
                continue  # UDP; tests/outside/sn_cases speaks on it
            socket.create_connection((host, int(port)), 2).close()


@case
def sigterm_is_a_clean_end(binary):
    """5.0 clients are told 0x8B, all connections end, the exit code is 0, within 5 s."""
    with running(binary) as broker:
        new, old = Wire(broker, 5, "new"), Wire(broker, 4, "old")
        begin = time.monotonic()
        broker.process.send_signal(signal.SIGTERM)
        packet = new.packet()
        check(packet is not None and packet.kind == wire.DISCONNECT and packet.rc == 0x8B, packet)
        check(new.packet() is None and old.packet() is None, "connections are still open")
        code = broker.process.wait(8)
        took = time.monotonic() - begin
        check(code == 0 and took < 5, f"exit code {code} after {took:.1f} s")


@case
def sigint_is_a_clean_end(binary):
    with running(binary) as broker:
        broker.process.send_signal(signal.SIGINT)
        check(broker.process.wait(8) == 0, "exit code")


@case
def sighup_disturbs_no_client(binary):
    with running(binary) as broker:
        client = Wire(broker)
        for _ in range(3):
            broker.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            check(broker.alive() and client.alive(), "SIGHUP ended something")
        Wire(broker, 4, "another")


@case
def the_certificate_stays_over_a_restart(binary):
    with running(binary) as broker:
        first = broker.ca_file().read_bytes()
        check(broker.stop() == 0, "exit code")
        broker.start()
        check(broker.ca_file().read_bytes() == first, "another certificate")
        keys = [p for p in broker.data_dir.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]
        check(keys, "no private key in the data folder")
        for key in keys:
            check(key.stat().st_mode & 0o077 == 0, f"{key.name} can be read by others")


@case
def ready_soon_once_the_certificate_exists(binary):
    """The target is 100 ms for a release build; a debug build on a busy machine gets a second."""
    with running(binary) as broker:
        broker.stop()
        broker.start()
        check(broker.started_in < 1.0, f"ready after {broker.started_in:.2f} s")


def refused(binary, extra, *told, before=""):
    """`serve` ends with 2 and says on stderr what to change; nothing is left running."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "nightjar.toml"
        config.write_text(before + f'[node]\ndata_dir = "{folder}/data"\n' + extra + API)
        code, out, err = run(binary, "serve", "--config", str(config))
        check(code == 2, f"exit code {code}: {err}")
        check("ready" not in out, "it said ready")
        for word in told:
            check(word in err, f"no {word!r} in: {err}")


@case
def port_in_use(binary):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(binary, f'[listeners.tcp.default]\nbind = "127.0.0.1:{port}"\n', "listeners.tcp.default", str(port))


@case
def certificate_missing(binary):
    refused(binary, '[listeners.tcp.default]\nbind = "127.0.0.1:0"\n[listeners.tls.default]\nbind = "127.0.0.1:0"\n'
                    'cert_file = "no-such.pem"\nkey_file = "no-such.key"\n', "no-such.pem")


@case
def unknown_key(binary):
    refused(binary, "[mqtt]\nmax_packet_sise = 1\n", "max_packet_sise", "max_packet_size", "nightjar.toml:4")


@case
def wrong_type(binary):
    refused(binary, '[mqtt]\nmax_qos = "two"\n', "max_qos", "nightjar.toml:4")


@case
def check_says_the_same_without_starting(binary):
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "nightjar.toml"
        config.write_text(f'[node]\ndata_dir = "{folder}/data"\n[listeners.tcp.default]\nbind = "127.0.0.1:0"\n'
                          '[listeners.tls.default]\nbind = "127.0.0.1:0"\n'
                          '[listeners.ws.default]\nbind = "127.0.0.1:0"\n'
                          '[listeners.wss.default]\nbind = "127.0.0.1:0"\n'
                          '[listeners.mqttsn.default]\nbind = "127.0.0.1:0"\n' + API)
        code, _, err = run(binary, "check", "--config", str(config))
        check(code == 0, f"exit code {code}: {err}")
        config.write_text("[mqtt]\nmax_packet_sise = 1\n")
        code, _, err = run(binary, "check", "--config", str(config))
        check(code == 2 and "max_packet_sise" in err, f"exit code {code}: {err}")


@case
def status_and_healthcheck(binary):
    with running(binary) as broker:
        client = Wire(broker)
        config = str(broker.dir / "nightjar.toml")
        code, out, err = run(binary, "ctl", "--config", config, "status", "--output", "json")
        check(code == 0, f"exit code {code}: {err}")
        json.loads(out)
        code, _, err = run(binary, "healthcheck", "--config", config)
        check(code == 0, f"healthcheck: {code}: {err}")
        check(client.alive(), "the client was disturbed")
        broker.stop()
        code, _, _ = run(binary, "healthcheck", "--config", config)
        check(code == 6, f"healthcheck of a stopped node: {code}")


@case
def version(binary):
    code, out, _ = run(binary, "version")
    check(code == 0 and "nightjar" in out.lower(), out)


@case
def help_without_a_subcommand(binary):
    _, out, err = run(binary)
    check("serve" in out + err, "no help")


@case
def environment_and_set_change_a_key(binary):
    """--set goes before the environment, the environment before the file."""
    with running(binary) as broker:
        config = str(broker.dir / "nightjar.toml")
        env = {**clean_environment(), "NIGHTJAR_MQTT__MAX_QOS": "1", "NIGHTJAR_MQTT__MAX_INFLIGHT": "7"}
        done = subprocess.run([binary, "config", "print", "--config", config, "--set", "mqtt.max_qos=0"], env=env,
                              capture_output=True, text=True, timeout=LIMIT, check=False)
        check(done.returncode == 0, done.stderr)
        lines = [line.replace(" ", "").split("#")[0] for line in done.stdout.splitlines()]
        check("max_qos=0" in lines and "max_inflight=7" in lines, done.stdout)


def own_pair(binary, transport, version):
    """`nightjar sub` gets what `nightjar pub` sends, over each transport."""
    with running(binary) as broker:
        words = ["-h", "localhost", "-p", str(broker.port(transport)), "-V", version]
        if transport in ("tls", "wss"):
            words += ["--cafile", str(broker.ca_file())]
        if "ws" in transport:
            words += ["--ws"]
        sub = subprocess.Popen([binary, "sub", *words, "-t", "own/#", "-q", "1", "-C", "1", "-W", "15"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment())
        try:
            for _ in range(60):
                code, _, err = run(binary, "pub", *words, "-t", "own/t", "-q", "1", "-m", "hello")
                check(code == 0, f"pub: {code}: {err}")
                if sub.poll() is not None:
                    break
                time.sleep(0.1)
            out, err = sub.communicate(timeout=LIMIT)
            check(sub.returncode == 0 and out.strip() == "hello", f"sub: {sub.returncode}: {out} {err}")
        finally:
            if sub.poll() is None:
                sub.kill()
                sub.wait()


for _transport in ("tcp", "tls", "ws", "wss"):
    for _version in ("3", "311", "5"):
        def _own(binary, transport=_transport, version=_version):
            own_pair(binary, transport, version)

        CASES.append((f"process/own_pub_and_sub/{_transport}/{_version}", _own))


@case
def junk_on_every_port(binary):
    """A few hundred connections with random bytes on each port: the broker lives and serves."""
    dice = random.Random(7)
    with running(binary) as broker:
        for address in broker.endpoints.values():
            host, _, port = address.rpartition(":")
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 2) as sock:
                    sock.sendall(dice.randbytes(dice.randrange(1, 600)))
        check(broker.alive(), "the broker died")
        check(Wire(broker).alive(), "the broker does not serve")
        check(not broker.panic(), broker.panic())
