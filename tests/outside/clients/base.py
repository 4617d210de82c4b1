"""The face of an outside client, and what a scenario may expect of it."""

import dataclasses
import itertools
import os

TRANSPORTS = ("tcp", "tls", "ws", "wss")
VERSIONS = (3, 4, 5)
WAIT = 10.0


class Failed(Exception):
    """The client saw something else than the scenario expects."""


class Unavailable(Exception):
    """The client is not installed here; the reason says what to install."""


@dataclasses.dataclass
class Message:
    topic: str
    payload: str
    qos: int
    retain: bool
    properties: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Will:
    topic: str
    payload: str
    qos: int = 0
    retain: bool = False


class Client:
    """One MQTT client. `name` is how results call the library; `transports` and `versions` are what it can do."""

    name = ""
    transports = TRANSPORTS
    versions = VERSIONS

    def __init__(self, broker, transport, version, client_id):
        self.broker, self.transport, self.version, self.client_id = broker, transport, version, client_id

    @classmethod
    def start(cls):
        """Checks that the library is here, and starts what all its clients share."""

    @classmethod
    def stop(cls):
        """Ends what `start` started."""

    @classmethod
    def discards_will(cls, version):
        """Whether its `disconnect` tells the broker to forget the will."""
        return True

    def connect(self, clean=True, expiry=0, will=None):
        """Returns session present (3.1 has none: False)."""
        raise NotImplementedError

    def subscribe(self, topic_filter, qos=0):
        raise NotImplementedError

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        """Returns when the exchange of its QoS is complete."""
        raise NotImplementedError

    def receive(self, timeout=WAIT):
        """The next message."""
        raise NotImplementedError

    def disconnect(self):
        raise NotImplementedError

    def kill(self):
        """The network connection ends without DISCONNECT."""
        raise NotImplementedError


class Bench:
    """What a scenario gets: clients of one kind over one transport in one version, and fresh names."""

    _counter = itertools.count()

    def __init__(self, kind, broker, transport, version):
        self.kind, self.broker, self.transport, self.version = kind, broker, transport, version
        self.key = f"{os.getpid() % 10000}o{next(self._counter)}"
        self.clients = []

    def topic(self, name="t"):
        return f"outside/{self.key}/{name}"

    def client(self, name="c", **options):
        """A connected client; `present` checks session present where the version has it."""
        present = options.pop("present", None)
        client = self.kind(self.broker, self.transport, self.version, f"o{self.key}{name}"[:23])
        self.clients.append(client)
        got = client.connect(**options)
        if present is not None and self.version != 3 and got is not None and bool(got) != present:
            raise Failed(f"{name}: session present is {got}")
        return client

    def end(self):
        for client in self.clients:
            try:
                client.kill()
            except Exception:  # the client has ended already, or the test has failed before
                pass


def expect(client, topic, payload, qos=None, retain=False):
    message = client.receive()
    for field, want in (("topic", topic), ("payload", payload), ("qos", qos), ("retain", retain)):
        if want is not None and getattr(message, field) != want:
            raise Failed(f"{message}: {field} is not {want!r}")
    return message
