"""What the tests of access have in common: a broker with ctl, a probe that must lose nothing, certificates, tokens."""

import base64
import contextlib
import hashlib
import hmac
import json
import pathlib
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))

from blocking import Client, Failed, check, trusting, until, wire  # noqa: E402, F401
from broker import Broker, BrokerError, clean_environment, free_port  # noqa: E402, F401

# What a message of the probe may take, whatever is going on.
LATEST = 5.0


class Node(Broker):
    """A broker with this configuration; `port` is a client's way in, `ctl` a command for it."""

    def __init__(self, binary, config, files=None):
        super().__init__("nightjar", str(binary), extra=config)
        for name, text in (files or {}).items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def config(self):
        text = f'[node]\nname = "test@127.0.0.1"\ndata_dir = "{self.data_dir}"\n[api]\nenable = false\n'
        text += "".join(f'[listeners.{kind}.default]\nbind = "127.0.0.1:0"\n'
                        for kind in ("tcp", "tls", "ws", "wss", "mqttsn")
                        if f"[listeners.{kind}.default]" not in self.extra)
        return text + self.extra.replace("{dir}", str(self.dir))

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()

    def run(self, *args, code=0):
        """A command of the same program for this node; its output as JSON where it is some."""
        done = subprocess.run([self.binary, *args], cwd=self.dir, env=clean_environment(), text=True,
                              capture_output=True, timeout=30, check=False)
        check(done.returncode == code, f"{args}: {done.returncode} instead of {code}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def ctl(self, *args, code=0):
        return self.run("ctl", "--data-dir", str(self.data_dir), "--yes", "--output", "json", *args, code=code)

    def status(self):
        return json.loads(self.ctl("status"))

    def refused(self, reason):
        return self.status()["refused"].get(reason, 0)

    def client(self, cid="", rc=0, **options):
        """A client of the TCP listener, or whatever CONNACK must say."""
        return Client(self.port("tcp"), cid, rc=rc, **options)

    def code(self, cid="c", **options):
        """The code of CONNACK."""
        client = self.client(cid, rc=None, **options)
        client.end()
        return client.connack.rc

    def resident(self):
        """Bytes of memory."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Failed("no VmRSS")


class Probe:
    """A client that publishes to itself all the time: each message must arrive within `LATEST` seconds, and the memory
    of the broker must stay below `cap` bytes."""

    def __init__(self, node, cap=256 << 20, **options):
        self.node, self.cap = node, cap
        self.client = node.client("probe", **options)
        check(self.client.subscribe("probe/t") in (0, 1), "the probe may not subscribe")
        self.slowest, self.most, self.sent, self.error = 0.0, 0, 0, None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self):
        try:
            while not self.over.is_set():
                begin = time.monotonic()
                self.sent += 1
                payload = str(self.sent).encode()
                check(self.client.publish("probe/t", payload) in (0, 16), "the probe's message is refused")
                got = self.client.message(LATEST)
                check(got.payload == payload, f"{got} instead of message {self.sent}")
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.most = max(self.most, self.node.resident())
                time.sleep(0.02)
        except (Failed, OSError, wire.WireError) as error:
            self.error = repr(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        end = time.monotonic() + LATEST
        while kind is None and self.sent < 5 and self.error is None and time.monotonic() < end:
            time.sleep(0.05)
        self.over.set()
        self.thread.join(LATEST * 3)
        self.client.end()
        if kind is None:
            check(self.error is None, f"the probe: {self.error}")
            check(self.sent > 1, "the probe sent nothing")
            check(self.slowest < LATEST, f"the probe waited {self.slowest:.1f} s for a message")
            check(self.most < self.cap, f"{self.most >> 20} MiB of memory, the cap is {self.cap >> 20}")


# ---- tokens ----


def encoded(data):
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key, claims, head=None):
    """A token signed with HS256, or with nothing where the header says so."""
    head = head or {"alg": "HS256"}
    signed = f"{encoded(head)}.{encoded(claims)}"
    tag = b"" if head["alg"] == "none" else hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{encoded(tag)}"


# ---- certificates ----


def openssl(folder, *args):
    done = subprocess.run(["openssl", *args], cwd=folder, text=True, capture_output=True, check=False, timeout=60)
    check(done.returncode == 0, f"openssl {args[0]}: {done.stderr}")
    return done.stdout


class Authority:
    """A certificate authority in a folder of its own, with a list of revoked certificates."""

    def __init__(self, folder, name):
        self.dir = pathlib.Path(folder) / name
        self.dir.mkdir(parents=True)
        (self.dir / "index.txt").write_text("")
        (self.dir / "serial").write_text("1000\n")
        (self.dir / "crlnumber").write_text("1000\n")
        (self.dir / "new").mkdir()
        (self.dir / "ca.cnf").write_text(f"""
[ca]
default_ca = it
[it]
dir = {self.dir}
database = {self.dir}/index.txt
serial = {self.dir}/serial
crlnumber = {self.dir}/crlnumber
new_certs_dir = {self.dir}/new
certificate = {self.dir}/ca.pem
private_key = {self.dir}/ca.key
default_md = sha256
default_days = 10
default_crl_days = 10
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
""")
        openssl(self.dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                "ca.key", "-out", "ca.pem", "-days", "10", "-subj", f"/CN={name}", "-addext",
                "keyUsage=critical,keyCertSign,cRLSign")
        self.crl()

    @property
    def file(self):
        return self.dir / "ca.pem"

    def issue(self, name, extension="subjectAltName=DNS:localhost,IP:127.0.0.1"):
        """A certificate and its key."""
        key, request, cert = (self.dir / f"{name}.{end}" for end in ("key", "csr", "pem"))
        openssl(self.dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                str(key), "-out", str(request), "-subj", f"/CN={name}", "-addext", extension)
        openssl(self.dir, "ca", "-config", "ca.cnf", "-batch", "-notext", "-in", str(request), "-out", str(cert))
        return cert, key

    def revoke(self, cert):
        openssl(self.dir, "ca", "-config", "ca.cnf", "-revoke", str(cert))
        self.crl()

    def crl(self):
        openssl(self.dir, "ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem")
        return self.dir / "crl.pem"


@contextlib.contextmanager
def refused_connection(what):
    """The connection inside must not come to a CONNACK that lets it in."""
    try:
        yield
    except (OSError, Failed):
        return
    raise Failed(f"{what} got in")
