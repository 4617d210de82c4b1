"""What the cases of MQTT-SN share: the list of cases, brokers by profile, clients of both protocols, checks.

A case is a function of one argument, its Desk. Client ids, topics and source addresses of a case are its own, so that
many cases share one broker and run at once.
"""

import contextlib
import http.server
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "raw")]

import broker as brokers  # noqa: E402
import sn_client as sn  # noqa: E402
from mqtt_peer import Mqtt  # noqa: E402

CASES = []

# Waits for what should come at once; a busy machine gets its time.
SOON = 5.0
# How long nothing must come for it to count as nothing.
QUIET = 0.4


class Failed(Exception):
    """The broker did something else than it should."""


class Case:
    """One test: a function, what it proves, the broker it needs."""

    def __init__(self, fn, proves, profile, slow):
        self.fn, self.proves, self.profile, self.slow = fn, proves, profile, slow
        self.module = fn.__module__
        self.path = f"sn/{self.module}/{fn.__name__}"
        self.reference = f"tests/outside/sn_cases/{self.module}.py::{fn.__name__}"


def case(*proves, profile="sn", slow=False):
    """Makes a function a case. `proves` names statements of tests/statements-mqttsn.toml; slow cases begin first.
    The profile "own" is for cases that start brokers themselves."""

    def add(fn):
        CASES.append(Case(fn, proves, profile, slow))
        return fn

    return add


def check(condition, what):
    if not condition:
        raise Failed(what)


# ---- brokers ----------------------------------------------------------------------------------------------------------

# Listeners of MQTT-SN in the broker that most cases share, by what differs from the defaults.
LISTENERS = {
    "default": "",
    "quick": 'retry_interval = "1s"\nmax_retries = 2\n',
    "small": "max_datagram = 60\n",
    "few": "max_topics = 3\n",
    "open": 'qos_minus_one = true\n',
    "capped": 'qos_minus_one = true\nqos_minus_one_rate = "5/s"\n',
    "strict": "strict_client_id = true\n",
    "polite": "publish_asleep = false\n",
    "never": 'address_change = "never"\n',
    "same_ip": 'address_change = "same_ip"\n',
    "same_prefix": 'address_change = "same_prefix"\n',
    "portion": "wake_limit = 3\n",
    "buffer": "buffer_messages = 5\n",
    "mounted": 'mountpoint = "site/${clientid}/"\n',
    "trusted": 'auth = "trusted"\ntrusted_sources = ["127.99.0.0/16"]\n',
    "slow_door": 'new_sessions_per_source = "3/s"\n',
    "one": "max_connections = 1\n",
}

PREDEFINED = """
[[listeners.mqttsn.{name}.predefined]]
id = 1
topic = "pre/one"
[[listeners.mqttsn.{name}.predefined]]
id = 1002
topic = "pre/of/${{clientid}}"
[[listeners.mqttsn.{name}.predefined]]
id = 1003
topic = "pre/special"
clients = "special-*"
[[listeners.mqttsn.{name}.predefined]]
id = 1004
topic = "denied/pre"
"""


def listener(name, settings, bind="127.0.0.1:0", predefined=True):
    text = f'[listeners.mqttsn.{name}]\nbind = "{bind}"\n{settings}'
    return text + (PREDEFINED.format(name=name) if predefined else "")


ACL = """
[acl]
no_match = "allow"
[[acl.sources]]
kind = "file"
path = "{dir}/acl.conf"
"""

PROFILES = {
    "sn": "".join(listener(name, settings) for name, settings in LISTENERS.items()) + ACL,
    "auth": listener("default", 'username = "${clientid}"\npassword = "from-listener"\n') + """
[[auth.chain]]
kind = "http"
url = "http://127.0.0.1:{judge}/auth"
timeout = "2s"
[acl]
no_match = "allow"
[[acl.sources]]
kind = "http"
url = "http://127.0.0.1:{judge}/acl"
timeout = "2s"
""",
    "rates": listener("default", 'username = "${clientid}"\nqos_minus_one = true\n')
    + listener("nat", 'trusted_sources = ["127.0.0.0/8"]\n')
    + listener("ann", 'username = "ann"\n') + listener("eve", 'username = "eve"\n') + """
[auth]
bind_client_id = true
[limits.client]
messages = "6/120s"
bytes = "3000/600s"
connects = "3/120s"
[limits.address]
messages = "12/120s"
connects = "16/120s"
""" + ACL.replace("[acl]\n", '[acl]\ndeny_action = "disconnect"\n'),
}
brokers.PROFILES.update(PROFILES)


class Judge:
    """An HTTP service that decides by the client id: allowed-*, denied-*, anything else is an error of the service; and by
    the topic: shaky/* is an error of the service, anything else is allowed."""

    def __init__(self):
        judge = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                form = {key: values[0] for key, values in urllib.parse.parse_qs(body).items()}
                if self.path == "/acl":
                    code = 500 if form.get("topic", "").startswith("shaky/") else 200
                else:
                    judge.asked.append(form)
                    who = form.get("clientid", "")
                    code = 200 if who.startswith("allowed") else 403 if who.startswith("denied") else 500
                self.send_response(code)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


JUDGE = None


def judge():
    global JUDGE
    if JUDGE is None:
        JUDGE = Judge()
    return JUDGE


def new_broker(binary, profile="sn", extra=""):
    """A broker that is not started."""
    if profile == "auth":
        brokers.PROFILES["auth"] = PROFILES["auth"].replace("{judge}", str(judge().port))
    return brokers.Broker("nightjar", binary, profile, extra)


@contextlib.contextmanager
def running(binary, extra, profile="bare"):
    """A broker of one case alone."""
    brokers.PROFILES.setdefault("bare", "")
    own = brokers.Broker("nightjar", binary, profile, extra)
    try:
        yield own.start()
        check(not own.panic(), own.panic())
    finally:
        own.remove()


# ---- the desk of a case ---------------------------------------------------------------------------------------------


class Desk:
    """Clients and names of one case."""

    def __init__(self, the_case, number, broker, binary):
        self.case, self.number, self.broker, self.binary = the_case, number, broker, binary
        self.name = f"{the_case.fn.__name__}"[:40]
        self.open = []

    def topic(self, rest="t"):
        """A topic of this case alone."""
        return f"{self.case.module}/{self.name}/{rest}"

    def id(self, who):
        """A client id of this case alone, at most 23 characters."""
        return f"{who}-{self.number}"

    def address(self, host=1):
        """A loopback address of this case alone; those of one case share their /24."""
        return f"127.{10 + self.number // 250}.{self.number % 250}.{host}"

    def gateway(self, listener="default", broker=None):
        host, _, port = (broker or self.broker).endpoints[f"mqttsn:{listener}"].rpartition(":")
        return host.strip("[]"), int(port)

    def client(self, who="c", listener="default", host=1, broker=None, client_id=None, **options):
        """An MQTT-SN client that is not connected, on an address of this case."""
        where = self.gateway(listener, broker)
        bind = options.pop("bind", (self.address(host), 0) if "." in where[0] else None)
        client = sn.Client(*where, client_id if client_id is not None else self.id(who), bind=bind, **options)
        self.open.append(client)
        return client

    def connected(self, who="c", listener="default", **options):
        """An MQTT-SN client that is connected."""
        how = {key: options.pop(key) for key in ("clean", "will", "duration") if key in options}
        client = self.client(who, listener, **options)
        client.connect(**how)
        return client

    def mqtt(self, who="m", v=5, transport="tcp", broker=None, **options):
        """A connected MQTT client."""
        peer = Mqtt(broker or self.broker, self.id(who), v, transport, **options)
        self.open.append(peer)
        return peer

    def watcher(self, topic, qos=2, who="watch", **options):
        """A connected MQTT client with a subscription."""
        peer = self.mqtt(who, **options)
        peer.subscribe(topic, qos)
        return peer

    def stranger(self, listener="default", host=1, broker=None):
        """A socket that the gateway does not know, for raw datagrams."""
        return Raw(self, self.gateway(listener, broker), self.address(host))

    def end(self):
        for one in self.open:
            with contextlib.suppress(OSError):
                one.close()

    # ---- the operator ----

    def ctl(self, broker, *words, ok=True):
        """What `ctl` says."""
        done = subprocess.run(
            [self.binary, "ctl", "--config", str(broker.dir / "nightjar.toml"), *words],
            capture_output=True, text=True, timeout=30, check=False, env=brokers.clean_environment())
        check(done.returncode == 0 or not ok, f"ctl {' '.join(words)}: {done.returncode}: {done.stderr}")
        return done

    def counters(self, broker=None):
        """All counters of the broker by their full names, labels included."""
        done = self.ctl(broker or self.broker, "metrics", "--prometheus")
        lines = [line.rpartition(" ") for line in done.stdout.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}


class Raw:
    """A UDP socket for datagrams as they are."""

    def __init__(self, desk, gateway, address, port=0):
        self.gateway = gateway
        self.socket = socket.socket(socket.AF_INET6 if ":" in gateway[0] else socket.AF_INET, socket.SOCK_DGRAM)
        if ":" not in gateway[0]:
            self.socket.bind((address, port))
        desk.open.append(self)

    def close(self):
        self.socket.close()

    def send(self, datagram):
        self.socket.sendto(datagram, self.gateway)

    def receive(self, timeout=QUIET):
        """The next datagram, None after `timeout` seconds."""
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(65535)
        except socket.timeout:
            return None

    def all(self, quiet=QUIET):
        """What comes until it is quiet."""
        found = []
        while (datagram := self.receive(quiet)) is not None:
            found.append(datagram)
        return found

    def ask(self, datagram, timeout=SOON):
        """Sends and decodes the next datagram."""
        self.send(datagram)
        answer = self.receive(timeout)
        return None if answer is None else sn.decode(answer)


def expect(client, msg_type, timeout=SOON):
    """The next message of the gateway is of this type; it is not handled."""
    message = client.next_message(timeout)
    check(message is not None, f"no {sn.NAMES[msg_type]} within {timeout:g} s")
    check(message.type == msg_type, f"expected {sn.NAMES[msg_type]}, got {message}")
    return message


def quiet(client, seconds=QUIET):
    """The gateway sends nothing."""
    message = client.next_message(seconds)
    check(message is None, f"expected nothing, got {message}")


def receives(client, topic, data, timeout=SOON):
    """The next message of a subscription is this one."""
    got = client.receive(timeout)
    check(got is not None, f"{data!r} did not come within {timeout:g} s")
    check((got.topic, got.data) == (topic, data), f"expected {data!r} on {topic}, got {got}")
    return got


def refused(code, action, *words, **options):
    """The action raises Refused with this return code."""
    try:
        action(*words, **options)
    except sn.Refused as refusal:
        check(refusal.code == code, f"refused with {refusal.code}, not {code}")
        return
    raise Failed(f"not refused, expected return code {code}")


def until(what, look, timeout=SOON):
    """Looks until it is there."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise Failed(f"{what}: not within {timeout:g} s")
