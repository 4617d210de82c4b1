"""Clients of the kill loop, each a thread that comes back whenever the broker does. They keep the session state that
the standards ask of a client, and write down all they do and see.
"""

import pathlib
import random
import socket
import sys
import threading
import time
from collections import OrderedDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "raw"))

import wire  # noqa: E402
from history import Subscription, body  # noqa: E402

# Longest silence of a broker that is up.
LIMIT = 20.0
# So long a client waits for CONNACK before it tries again.
CONNACK = LIMIT
FOREVER = 0xFFFFFFFF


class Gone(Exception):
    """The connection ended, or could not be made."""


class Link:
    """One connection: CONNECT, then packets. `port` is one of loopback, or (host, port)."""

    def __init__(self, port, client_id, v, clean=False, expiry=FOREVER, will=None, keep=None, patience=None):
        self.v = v
        self.address = address = port if isinstance(port, tuple) else ("127.0.0.1", port)
        try:
            self.sock = socket.create_connection(address, 2)
        except OSError as e:
            raise Gone(str(e)) from e
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(LIMIT)
        self.data = b""
        properties = {"session_expiry": expiry, "receive_maximum": keep or 100} if v == 5 else None
        self.send(wire.connect(client_id, v, clean=clean, will=will, properties=properties))
        self.connack = self.packet(patience or CONNACK)
        if self.connack is None:
            self.sock.close()
            raise Gone("no CONNACK")
        if self.connack.kind != wire.CONNACK or self.connack.rc != 0:
            self.sock.close()
            raise Gone(f"{self.connack}")

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Gone(str(e)) from e

    def _taken(self):
        """A packet of what was read already."""
        if len(self.data) < 2:
            return None
        length = shift = 0
        at = 1
        while True:
            if at >= len(self.data):
                return None
            digit = self.data[at]
            length |= (digit & 0x7F) << shift
            shift += 7
            at += 1
            if digit < 0x80:
                break
        if len(self.data) < at + length:
            return None
        first, content = self.data[0], self.data[at:at + length]
        self.data = self.data[at + length:]
        return wire.parse(first >> 4, first & 15, content, self.v)

    def packet(self, wait=LIMIT):
        """The next packet; None if none comes in time."""
        end = time.monotonic() + wait
        while True:
            packet = self._taken()
            if packet is not None:
                return packet
            left = end - time.monotonic()
            if left <= 0:
                if wait >= LIMIT:
                    raise Gone("the broker is silent")
                return None
            self.sock.settimeout(max(left, 0.001))
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                continue
            except OSError as e:
                raise Gone(str(e)) from e
            if not data:
                raise Gone("closed")
            self.data += data

    def close(self, packet=b""):
        try:
            if packet:
                self.sock.sendall(packet)
            self.sock.close()
        except OSError:
            pass


class Client(threading.Thread):
    """A client with a persistent session. `port` is asked at each connect: the broker may have moved."""

    # Between two attempts to connect.
    PAUSE = 0.02

    def __init__(self, history, port, name, v):
        super().__init__(name=name, daemon=True)
        self.history, self.port, self.v = history, port, v
        self.ending = threading.Event()
        self.known = False
        self.connection = 0
        self.error = None
        # Each client has its own dice, so that a seed gives the same wishes whatever the threads do.
        self.dice = random.Random(name)

    def link(self, **more):
        """A connection to the session. A session that should be there and is not is written down."""
        link = Link(self.port(), self.name, self.v, **more)
        self.connection += 1
        if self.known and not link.connack.session_present:
            self.history.session_lost(self.name)
            self.forget()
        self.known = True
        return link

    def forget(self):
        """The session is gone: what belonged to it goes too."""

    def run(self):
        try:
            while not self.ending.is_set():
                try:
                    self.live()
                except Gone:
                    self.ending.wait(self.PAUSE)
        except Exception as e:
            self.error = f"{self.name}: {type(e).__name__}: {e}"
            self.history.strange.append(self.error)

    def live(self):
        raise NotImplementedError

    def end(self):
        self.ending.set()
        self.join(LIMIT)


class Publisher(Client):
    """Publishes with one QoS until it is told to finish; then until everything is acknowledged."""

    WINDOW = 16

    def __init__(self, history, port, name, v, qos, rate):
        super().__init__(history, port, name, v)
        self.qos, self.rate = qos, rate
        self.finishing = threading.Event()
        self.number = 0
        self.open = OrderedDict()
        self.free = list(range(1, 200))
        self.due = time.monotonic()

    def next(self):
        """(identity, topic, payload, retain) of the next message."""
        self.number += 1
        ident = f"{self.name}-{self.number}"
        topic = f"d/{self.name}/{self.dice.randrange(3)}"
        self.history.publishing(ident, self.name, self.number, topic, self.qos)
        return ident, topic, body(ident, self.dice.choice((20, 100, 700, 3000))), False

    def done(self, ident):
        self.history.acknowledged(ident)

    def forget(self):
        for state in self.open.values():
            state["stage"] = "sent"

    def live(self):
        link = self.link()
        try:
            # In their first order, before anything new [MQTT-4.6.0-1].
            for pid, state in self.open.items():
                self.send(link, pid, state, dup=True)
            self.known = True
            while not (self.ending.is_set() or (self.finishing.is_set() and not self.open)):
                now = time.monotonic()
                while not self.finishing.is_set() and len(self.open) < self.WINDOW and self.due <= now:
                    self.due = max(self.due + 1 / self.rate, now - 0.5)
                    pid = self.free.pop(0)
                    ident, topic, payload, retain = self.next()
                    state = {"ident": ident, "topic": topic, "payload": payload, "retain": retain, "stage": "sent"}
                    self.open[pid] = state
                    self.send(link, pid, state)
                packet = link.packet(0.01)
                if packet is not None:
                    self.take(link, packet)
            if not self.ending.is_set():
                self.ending.set()
        finally:
            link.close()

    def send(self, link, pid, state, dup=False):
        if state["stage"] == "sent":
            self.history.sending(state["ident"])
            link.send(wire.publish(state["topic"], state["payload"], self.qos, pid, self.v, dup, state["retain"]))
        else:
            link.send(wire.ack(wire.PUBREL, pid))

    def take(self, link, packet):
        state = self.open.get(getattr(packet, "pid", None))
        if state is None:
            return
        if packet.kind in (wire.PUBACK, wire.PUBCOMP):
            # A release that was done before the kill is not known any more (0x92), and done.
            if packet.rc >= 0x80 and not (packet.kind == wire.PUBCOMP and packet.rc == 0x92):
                raise Gone(f"{packet}")
            del self.open[packet.pid]
            self.free.append(packet.pid)
            if packet.kind == wire.PUBACK or self.qos == 2:
                self.done(state["ident"])
        elif packet.kind == wire.PUBREC:
            if packet.rc >= 0x80:
                raise Gone(f"{packet}")
            state["stage"] = "received"
            link.send(wire.ack(wire.PUBREL, packet.pid))


class RetainedPublisher(Publisher):
    """Sets and deletes retained messages, one after the other on each topic."""

    TOPICS = 6
    WINDOW = 6

    def next(self):
        self.number += 1
        topic = f"r/{self.dice.randrange(self.TOPICS)}"
        ident = f"{self.name}-{self.number}"
        delete = self.dice.random() < 0.2
        with self.history.lock:
            self.history.retained[topic].append(None if delete else ident)
        return (topic, len(self.history.retained[topic])), topic, b"" if delete else body(ident, 60), True

    def done(self, ident):
        topic, count = ident
        with self.history.lock:
            self.history.retained_acked[topic] = max(self.history.retained_acked[topic], count)


class Subscriber(Client):
    """Subscribes once, and takes what comes. `habit`: "online" stays, "flaky" comes and goes, "offline" leaves after
    its SUBSCRIBE and comes back when `return_now` is set."""

    def __init__(self, history, port, name, v, filters, habit):
        super().__init__(history, port, name, v)
        self.filters, self.habit = filters, habit
        self.return_now = threading.Event()
        self.subscribed = threading.Event()
        self.unreleased = set()

    def forget(self):
        self.unreleased.clear()
        self.subscribed.clear()

    def live(self):
        if self.habit == "offline" and self.subscribed.is_set() and not self.return_now.is_set():
            self.ending.wait(0.05)
            return
        link = self.link(keep=50)
        leave = time.monotonic() + (self.dice.uniform(0.05, 0.8) if self.habit == "flaky" else 3600)
        try:
            if not self.subscribed.is_set():
                link.send(wire.subscribe(1, self.filters, self.v))
            while not self.ending.is_set() and time.monotonic() < leave:
                packet = link.packet(0.02)
                if packet is not None:
                    self.take(link, packet)
                if self.habit == "offline" and self.subscribed.is_set() and not self.return_now.is_set():
                    return
            if self.habit == "flaky" and self.dice.random() < 0.5 and not self.return_now.is_set():
                link.send(wire.disconnect())
        finally:
            link.close()
        if self.habit == "flaky" and not self.return_now.is_set():
            self.ending.wait(self.dice.uniform(0, 0.4))

    def take(self, link, packet):
        if packet.kind == wire.SUBACK:
            if any(rc >= 0x80 for rc in packet.rcs):
                raise Gone(f"{packet}")
            for topic_filter, qos in self.filters:
                self.history.subscription(self.name, topic_filter, qos)
            self.subscribed.set()
        elif packet.kind == wire.PUBLISH:
            if packet.qos == 2 and packet.pid in self.unreleased:
                pass
            else:
                self.history.receipt(self.name, packet.topic, packet.payload, packet.qos, packet.dup, self.connection)
            if packet.qos == 1:
                link.send(wire.ack(wire.PUBACK, packet.pid))
            elif packet.qos == 2:
                self.unreleased.add(packet.pid)
                link.send(wire.ack(wire.PUBREC, packet.pid))
        elif packet.kind == wire.PUBREL:
            self.unreleased.discard(packet.pid)
            link.send(wire.ack(wire.PUBCOMP, packet.pid))


class Toggler(Client):
    """Subscribes to and unsubscribes from a few filters, over and over; knows what was acknowledged."""

    FILTERS = [f"x/{n}" for n in range(8)]

    def __init__(self, history, port, name, v):
        super().__init__(history, port, name, v)
        self.pid = 0
        for topic_filter in self.FILTERS:
            history.toggled[(name, topic_filter)] = False

    def live(self):
        link = self.link()
        try:
            while not self.ending.is_set():
                topic_filter = self.dice.choice(self.FILTERS)
                key = (self.name, topic_filter)
                wish = self.dice.random() < 0.5
                self.pid = self.pid % 60000 + 1
                # Unknown until the answer is there, and for ever if the connection dies first.
                self.history.toggled[key] = None
                if wish:
                    link.send(wire.subscribe(self.pid, [(topic_filter, 1)], self.v))
                else:
                    link.send(wire.unsubscribe(self.pid, [topic_filter], self.v))
                answer = link.packet()
                if answer.kind in (wire.SUBACK, wire.UNSUBACK) and answer.pid == self.pid:
                    self.history.toggled[key] = wish
                self.ending.wait(0.02)
        finally:
            link.close()

    def probe(self):
        """Publishes on every filter and says which came to the session."""
        link = Link(self.port(), self.name, self.v)
        if not link.connack.session_present:
            self.history.session_lost(self.name)
        other = Link(self.port(), "prober", 4, clean=True)
        for number, topic_filter in enumerate(self.FILTERS, 1):
            other.send(wire.publish(topic_filter, b"probe", 1, number, 4))
            other.packet()
        came = set()
        while (packet := link.packet(1.5)) is not None:
            if packet.kind == wire.PUBLISH:
                came.add((self.name, packet.topic))
                link.send(wire.ack(wire.PUBACK, packet.pid))
        self.history.probed = came
        link.close()
        other.close()


class PahoSubscriber(threading.Thread):
    """The same on the Eclipse Paho library: another hand's idea of a client."""

    def __init__(self, history, port, name, filters):
        super().__init__(name=name, daemon=True)
        import paho.mqtt.client as mqtt
        self.mqtt, self.history, self.port, self.filters = mqtt, history, port, filters
        self.ending, self.subscribed = threading.Event(), threading.Event()
        self.known, self.connection, self.error = False, 0, None
        c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=False, protocol=mqtt.MQTTv311)
        c.on_connect, c.on_message, c.on_subscribe = self.on_connect, self.on_message, self.on_subscribe
        self.client = c

    def on_connect(self, client, _data, flags, code, _properties):
        if code.is_failure:
            return
        self.connection += 1
        if self.known and not flags.session_present:
            self.history.session_lost(self.name)
            self.subscribed.clear()
        self.known = True
        if not self.subscribed.is_set():
            client.subscribe(self.filters)

    def on_subscribe(self, _client, _data, _mid, _codes, _properties):
        if not self.subscribed.is_set():
            for topic_filter, qos in self.filters:
                self.history.subscribed[self.name].append(Subscription(topic_filter, qos, time.monotonic()))
        self.subscribed.set()

    def on_message(self, _client, _data, message):
        self.history.receipt(self.name, message.topic, message.payload, message.qos, message.dup, self.connection)

    def run(self):
        while not self.ending.is_set():
            try:
                self.client.connect("127.0.0.1", self.port(), keepalive=30)
                while not self.ending.is_set() and self.client.loop(0.05) == self.mqtt.MQTT_ERR_SUCCESS:
                    pass
            except (OSError, ValueError):
                pass
            self.ending.wait(0.03)

    def end(self):
        self.ending.set()
        self.join(LIMIT)
