#!/usr/bin/env python3
"""A small MQTT-SN 1.2 client for tests, written from the standard's text (sections in brackets).

It shares nothing with the gateway's codec, so that a misreading on one side shows. Standard library only, one thread: a
call pumps the socket until its answer is there, answering the gateway's REGISTER, PUBLISH, PUBREL and PINGREQ on the way.

    client = Client("127.0.0.1", 1884, "sensor-1")
    client.connect(will=Will("status", b"gone"))
    client.subscribe("room/+", qos=1)
    client.publish("room/1", b"21", qos=2)
    print(client.receive())

`python3 sn_client.py` runs the self-test.
"""

import random
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

# MsgType (5.2.2)
ADVERTISE, SEARCHGW, GWINFO = 0x00, 0x01, 0x02
CONNECT, CONNACK, WILLTOPICREQ, WILLTOPIC, WILLMSGREQ, WILLMSG = 0x04, 0x05, 0x06, 0x07, 0x08, 0x09
REGISTER, REGACK, PUBLISH, PUBACK, PUBCOMP, PUBREC, PUBREL = 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x12, 0x13, 0x14, 0x15
PINGREQ, PINGRESP, DISCONNECT = 0x16, 0x17, 0x18
WILLTOPICUPD, WILLTOPICRESP, WILLMSGUPD, WILLMSGRESP = 0x1A, 0x1B, 0x1C, 0x1D
ENCAPSULATED = 0xFE

NAMES = {code: name for name, code in list(globals().items()) if name.isupper() and isinstance(code, int)}

# ReturnCode (5.3.10)
ACCEPTED, CONGESTION, INVALID_TOPIC_ID, NOT_SUPPORTED = range(4)

# Flags (5.3.4)
DUP, RETAIN, WILL, CLEAN = 0x80, 0x10, 0x08, 0x04
QOS_BITS = {0: 0x00, 1: 0x20, 2: 0x40, -1: 0x60}
QOS_OF_BITS = {bits: qos for qos, bits in QOS_BITS.items()}
NORMAL, PREDEFINED, SHORT = 0, 1, 2


class MqttSnError(Exception):
    """A malformed datagram, a refusal, or no answer."""


class Timeout(MqttSnError):
    """No answer after N_retry repeats."""


class Disconnected(MqttSnError):
    """The gateway sent DISCONNECT, unasked."""


class Refused(MqttSnError):
    """A return code other than accepted."""

    def __init__(self, what, code):
        super().__init__(f"{what}: return code {code}")
        self.code = code


class Predefined(NamedTuple):
    """A predefined topic id."""

    id: int


class Short(NamedTuple):
    """A short topic name of exactly 2 octets."""

    name: bytes


@dataclass(frozen=True)
class Will:
    """What the gateway publishes when the client is lost."""

    topic: str
    message: bytes
    qos: int = 0
    retain: bool = False


class Received(NamedTuple):
    """A message of a subscription. The topic is a name, a Predefined or a Short."""

    topic: object
    data: bytes
    qos: int
    retain: bool
    dup: bool
    msg_id: int


@dataclass
class Message:
    """A decoded message: its type and the fields that type has."""

    type: int
    fields: dict = field(default_factory=dict)

    def __getattr__(self, name):
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self):
        return f"{NAMES.get(self.type, hex(self.type))}{self.fields}"


# ---- encoding -----------------------------------------------------------------------------------------------------


def pack(msg_type, body=b"", long_form=False):
    """Header and variable part (5.2). The 3-octet Length when it must be or when asked for."""
    if len(body) + 2 <= 255 and not long_form:
        return struct.pack("!BB", len(body) + 2, msg_type) + body
    if len(body) + 4 > 65535:
        raise MqttSnError(f"message of {len(body) + 4} octets")
    return struct.pack("!BHB", 1, len(body) + 4, msg_type) + body


def connect(client_id, clean=True, will=False, duration=60, protocol_id=1):
    """CONNECT (5.4.4)."""
    flags = (WILL if will else 0) | (CLEAN if clean else 0)
    return pack(CONNECT, struct.pack("!BBH", flags, protocol_id, duration) + client_id.encode())


def will_topic(will, msg_type=WILLTOPIC):
    """WILLTOPIC and WILLTOPICUPD (5.4.7, 5.4.22); None gives the empty one."""
    if will is None:
        return pack(msg_type)
    flags = QOS_BITS[will.qos] | (RETAIN if will.retain else 0)
    return pack(msg_type, bytes([flags]) + will.topic.encode())


def register(topic_name, msg_id, topic_id=0):
    """REGISTER (5.4.10)."""
    return pack(REGISTER, struct.pack("!HH", topic_id, msg_id) + topic_name.encode())


def ack(msg_type, topic_id, msg_id, code):
    """REGACK and PUBACK (5.4.11, 5.4.13)."""
    return pack(msg_type, struct.pack("!HHB", topic_id, msg_id, code))


def with_msg_id(msg_type, msg_id):
    """PUBREC, PUBREL, PUBCOMP and UNSUBACK (5.4.14, 5.4.18)."""
    return pack(msg_type, struct.pack("!H", msg_id))


def publish(topic, data, qos=0, retain=False, dup=False, msg_id=0):
    """PUBLISH (5.4.12). The topic is a registered id (int), a Predefined or a Short."""
    if isinstance(topic, Predefined):
        kind, octets = PREDEFINED, struct.pack("!H", topic.id)
    elif isinstance(topic, Short):
        kind, octets = SHORT, topic.name
    else:
        kind, octets = NORMAL, struct.pack("!H", topic)
    flags = QOS_BITS[qos] | (RETAIN if retain else 0) | (DUP if dup else 0) | kind
    return pack(PUBLISH, bytes([flags]) + octets + struct.pack("!H", msg_id) + data)


def _filter(topic):
    if isinstance(topic, Predefined):
        return PREDEFINED, struct.pack("!H", topic.id)
    if isinstance(topic, Short):
        return SHORT, topic.name
    return NORMAL, topic.encode()


def subscribe(topic, msg_id, qos=0, dup=False):
    """SUBSCRIBE (5.4.15). The topic is a name or filter (str), a Predefined or a Short."""
    kind, octets = _filter(topic)
    flags = QOS_BITS[qos] | (DUP if dup else 0) | kind
    return pack(SUBSCRIBE, struct.pack("!BH", flags, msg_id) + octets)


def unsubscribe(topic, msg_id):
    """UNSUBSCRIBE (5.4.17)."""
    kind, octets = _filter(topic)
    return pack(UNSUBSCRIBE, struct.pack("!BH", kind, msg_id) + octets)


def pingreq(client_id=""):
    """PINGREQ (5.4.19); with a client id it wakes a sleeping client."""
    return pack(PINGREQ, client_id.encode())


def disconnect(duration=None):
    """DISCONNECT (5.4.21); with a duration the client goes asleep."""
    return pack(DISCONNECT, b"" if duration is None else struct.pack("!H", duration))


def searchgw(radius=0):
    """SEARCHGW (5.4.2)."""
    return pack(SEARCHGW, bytes([radius]))


def encapsulate(node_id, datagram, radius=0):
    """Forwarder encapsulation (5.5): the Length ends at the node id."""
    return struct.pack("!BBB", 3 + len(node_id), ENCAPSULATED, radius) + node_id + datagram


# ---- decoding -----------------------------------------------------------------------------------------------------

# Fixed variable parts: struct format and field names.
_FIXED = {
    ADVERTISE: ("!BH", ("gw_id", "duration")),
    SEARCHGW: ("!B", ("radius",)),
    CONNACK: ("!B", ("code",)),
    WILLTOPICREQ: ("!", ()),
    WILLMSGREQ: ("!", ()),
    REGACK: ("!HHB", ("topic_id", "msg_id", "code")),
    PUBACK: ("!HHB", ("topic_id", "msg_id", "code")),
    PUBREC: ("!H", ("msg_id",)),
    PUBREL: ("!H", ("msg_id",)),
    PUBCOMP: ("!H", ("msg_id",)),
    SUBACK: ("!BHHB", ("flags", "topic_id", "msg_id", "code")),
    UNSUBACK: ("!H", ("msg_id",)),
    PINGRESP: ("!", ()),
    WILLTOPICRESP: ("!B", ("code",)),
    WILLMSGRESP: ("!B", ("code",)),
}


def decode(datagram):
    """One message that fills the datagram exactly."""
    if len(datagram) < 2:
        raise MqttSnError("datagram without header")
    header = 4 if datagram[0] == 1 else 2
    if len(datagram) < header:
        raise MqttSnError("datagram without header")
    length = struct.unpack("!H", datagram[1:3])[0] if header == 4 else datagram[0]
    if length != len(datagram):
        raise MqttSnError(f"Length {length} in a datagram of {len(datagram)} octets")
    msg_type, body = datagram[header - 1], datagram[header:]
    try:
        return Message(msg_type, _fields(msg_type, body))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise MqttSnError(f"{NAMES.get(msg_type, hex(msg_type))}: {error}") from error


def _fields(msg_type, body):
    if msg_type in _FIXED:
        form, names = _FIXED[msg_type]
        fields = dict(zip(names, struct.unpack(form, body)))
        if msg_type == SUBACK:
            fields["qos"] = QOS_OF_BITS[fields.pop("flags") & 0x60]
        return fields
    if msg_type == GWINFO:
        return {"gw_id": body[0], "gw_add": body[1:]}
    if msg_type == REGISTER:
        topic_id, msg_id = struct.unpack("!HH", body[:4])
        return {"topic_id": topic_id, "msg_id": msg_id, "topic_name": body[4:].decode()}
    if msg_type == PUBLISH:
        flags, octets, msg_id = body[0], body[1:3], struct.unpack("!H", body[3:5])[0]
        kind = flags & 3
        number = struct.unpack("!H", octets)[0]
        topic = {NORMAL: number, PREDEFINED: Predefined(number), SHORT: Short(octets)}.get(kind)
        if topic is None:
            raise MqttSnError("TopicIdType 0b11")
        return {
            "topic": topic,
            "raw_topic": number,
            "qos": QOS_OF_BITS[flags & 0x60],
            "retain": bool(flags & RETAIN),
            "dup": bool(flags & DUP),
            "msg_id": msg_id,
            "data": body[5:],
        }
    if msg_type == PINGREQ:
        return {"client_id": body.decode()}
    if msg_type == DISCONNECT:
        return {"duration": struct.unpack("!H", body)[0] if body else None}
    raise MqttSnError(f"message type {msg_type:#04x} is not for clients")


def decapsulate(datagram):
    """(node id, radius, the message's bytes) of a forwarder encapsulation."""
    if len(datagram) < 3 or datagram[1] != ENCAPSULATED or not 3 <= datagram[0] <= len(datagram):
        raise MqttSnError("no forwarder encapsulation")
    return datagram[3 : datagram[0]], datagram[2] & 3, datagram[datagram[0] :]


# ---- client -------------------------------------------------------------------------------------------------------


@dataclass
class Faults:
    """Loss to try the retransmissions with, as fractions of the datagrams; the same for one seed."""

    drop_sent: float = 0.0
    drop_received: float = 0.0
    duplicate_sent: float = 0.0
    seed: int = 1

    def __post_init__(self):
        self._random = random.Random(self.seed)

    def hits(self, fraction):
        return fraction > 0 and self._random.random() < fraction


class Client:
    """One MQTT-SN client on one UDP socket.

    `t_retry` is in seconds, `n_retry` counts repeats (7.2 recommends 10-15 s and 3-5; tests want less). With `node_id`
    everything goes through a forwarder encapsulation. `trace` holds ("sent"|"received", Message or bytes) in order.
    """

    def __init__(self, host, port, client_id, t_retry=1.0, n_retry=4, node_id=None, faults=None, bind=None):
        self.gateway = (host, port)
        self.client_id = client_id
        self.t_retry, self.n_retry = t_retry, n_retry
        self.node_id = node_id
        self.faults = faults or Faults()
        self.state = "disconnected"
        self.ids = {}  # topic name -> id
        self.names = {}  # id -> topic name
        self.inbox = deque()  # Received
        self.trace = []
        self.answer_messages = True  # False: PUBLISH and REGISTER of the gateway stay without answer
        self.register_code = lambda name: ACCEPTED  # what REGISTER of the gateway is answered with
        self._will = None
        self._pending_rel = set()  # MsgIds of QoS 2 messages delivered, PUBREL to come (sender may repeat)
        self._msg_id = random.randrange(1, 0xFFFF)
        self._unread = deque()
        self.socket = None
        self.rebind(bind)

    # -- socket

    def rebind(self, bind=None):
        """Goes on from a new source address, as behind a NAT that forgot the old one."""
        family = socket.getaddrinfo(*self.gateway, type=socket.SOCK_DGRAM)[0][0]
        if self.socket:
            self.socket.close()
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(bind or (("::1", 0) if family == socket.AF_INET6 else ("", 0)))
        return self.socket.getsockname()

    def close(self):
        """Closes the socket, without a word to the gateway."""
        self.socket.close()

    def send(self, datagram):
        """Sends one message, encapsulated if this client is behind a forwarder."""
        self.trace.append(("sent", bytes(datagram)))
        wire = datagram if self.node_id is None else encapsulate(self.node_id, datagram)
        if not self.faults.hits(self.faults.drop_sent):
            self.socket.sendto(wire, self.gateway)
        if self.faults.hits(self.faults.duplicate_sent):
            self.socket.sendto(wire, self.gateway)

    def send_raw(self, datagram):
        """Sends these bytes as they are."""
        self.socket.sendto(datagram, self.gateway)

    def next_message(self, timeout):
        """The next message of the gateway, not handled in any way; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                datagram, source = self.socket.recvfrom(65535)
            except socket.timeout:
                return None
            if self.faults.hits(self.faults.drop_received):
                continue
            if self.node_id is not None:
                node_id, _radius, datagram = decapsulate(datagram)
                if node_id != self.node_id:
                    raise MqttSnError(f"datagram for node {node_id.hex()}, this is {self.node_id.hex()}")
            message = decode(datagram)
            message.fields["source"] = source
            self.trace.append(("received", message))
            return message

    def _pump(self, timeout, wanted=lambda message: False):
        """Handles what comes until a wanted message; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            message = self.next_message(left)
            if message is None:
                return None
            if wanted(message):
                return message
            self._handle(message)
        return None

    def _handle(self, message):
        if message.type == DISCONNECT:
            self.state = "disconnected"
            raise Disconnected("the gateway sent DISCONNECT")
        if not self.answer_messages:
            return
        if message.type == REGISTER:
            code = self.register_code(message.topic_name)
            if code == ACCEPTED:
                self._learn(message.topic_name, message.topic_id)
            self.send(ack(REGACK, message.topic_id, message.msg_id, code))
        elif message.type == PUBLISH:
            self._handle_publish(message)
        elif message.type == PUBREL:
            self._pending_rel.discard(message.msg_id)
            self.send(with_msg_id(PUBCOMP, message.msg_id))
        elif message.type == PINGREQ:
            self.send(pack(PINGRESP))

    def _handle_publish(self, message):
        topic = message.topic
        if isinstance(topic, int):
            if topic not in self.names:
                self.send(ack(PUBACK, message.raw_topic, message.msg_id, INVALID_TOPIC_ID))
                return
            topic = self.names[topic]
        if message.qos == 2:
            if message.msg_id in self._pending_rel:
                self.send(with_msg_id(PUBREC, message.msg_id))
                return
            self._pending_rel.add(message.msg_id)
        self.inbox.append(Received(topic, message.data, message.qos, message.retain, message.dup, message.msg_id))
        if message.qos == 1:
            self.send(ack(PUBACK, message.raw_topic, message.msg_id, ACCEPTED))
        elif message.qos == 2:
            self.send(with_msg_id(PUBREC, message.msg_id))

    def _learn(self, name, topic_id):
        self.ids[name] = topic_id
        self.names[topic_id] = name

    def forget_topics(self):
        """Drops the topic map, as a device that lost its memory."""
        self.ids.clear()
        self.names.clear()

    def _next_msg_id(self):
        self._msg_id = self._msg_id % 0xFFFF + 1
        return self._msg_id

    def _request(self, what, first, wanted, repeat=None):
        """Sends until the wanted answer comes (6.13). `repeat` is sent instead of `first` from the second time on."""
        for attempt in range(self.n_retry + 1):
            self.send(first if attempt == 0 else repeat or first)
            answer = self._pump(self.t_retry, wanted)
            if answer is not None:
                return answer
        self.state = "disconnected"
        raise Timeout(f"{what}: no answer to {self.n_retry + 1} datagrams")

    # -- connection

    def connect(self, clean=True, will=None, duration=60, will_flag=None, empty_will=False, protocol_id=1):
        """CONNECT with the will handshake if there is a will (6.2). Raises Refused unless accepted.

        `empty_will` answers WILLTOPICREQ with the empty WILLTOPIC, which deletes the stored will.
        """
        asks = will is not None or empty_will if will_flag is None else will_flag
        self._will = will
        datagram = connect(self.client_id, clean, asks, duration, protocol_id)
        if clean:
            self.forget_topics()
            self._pending_rel.clear()

        steps = (CONNACK, WILLTOPICREQ, WILLMSGREQ)
        answer = self._request("CONNECT", datagram, lambda m: m.type in steps)
        while answer.type != CONNACK:
            reply = will_topic(will) if answer.type == WILLTOPICREQ else pack(WILLMSG, will.message)
            # A repeat of a step already answered is answered again by the loop; what was asked last counts.
            answer = self._request(NAMES[answer.type], reply, lambda m: m.type in steps)
        self._check("CONNECT", answer.code)
        self.state = "active"
        return answer

    def disconnect(self):
        """DISCONNECT, acknowledged by DISCONNECT (6.12)."""
        self._request("DISCONNECT", disconnect(), lambda m: m.type == DISCONNECT)
        self.state = "disconnected"

    def sleep(self, duration):
        """DISCONNECT with a duration in seconds (6.14)."""
        self._request("DISCONNECT", disconnect(duration), lambda m: m.type == DISCONNECT)
        self.state = "asleep"

    def wake(self, timeout=30.0):
        """PINGREQ with the client id; takes what was buffered until PINGRESP (6.14). Returns the messages taken.

        PINGREQ is repeated only while nothing at all comes: what comes is the answer.
        """
        before = len(self.inbox)
        deadline = time.monotonic() + timeout
        for _ in range(self.n_retry + 1):
            self.send(pingreq(self.client_id))
            quiet = time.monotonic() + self.t_retry
            while time.monotonic() < min(deadline, quiet):
                message = self.next_message(min(deadline, quiet) - time.monotonic())
                if message is None:
                    break
                if message.type == PINGRESP:
                    self.state = "asleep"
                    return list(self.inbox)[before:]
                self._handle(message)
                # The gateway's own retransmission may take longer than ours.
                quiet = time.monotonic() + self.t_retry * 4
        raise Timeout("PINGREQ: no PINGRESP")

    def ping(self):
        """PINGREQ of an active client (6.11)."""
        self._request("PINGREQ", pingreq(), lambda m: m.type == PINGRESP)

    def update_will_topic(self, will):
        """WILLTOPICUPD; None deletes the will (6.4)."""
        answer = self._request("WILLTOPICUPD", will_topic(will, WILLTOPICUPD), lambda m: m.type == WILLTOPICRESP)
        self._check("WILLTOPICUPD", answer.code)

    def update_will_message(self, message):
        """WILLMSGUPD (6.4)."""
        answer = self._request("WILLMSGUPD", pack(WILLMSGUPD, message), lambda m: m.type == WILLMSGRESP)
        self._check("WILLMSGUPD", answer.code)

    # -- topics and messages

    def register(self, topic_name):
        """REGISTER (6.5): the id that stands for the name from now on."""
        msg_id = self._next_msg_id()
        datagram = register(topic_name, msg_id)
        answer = self._request("REGISTER", datagram, lambda m: m.type == REGACK and m.msg_id == msg_id)
        self._check("REGISTER", answer.code)
        self._learn(topic_name, answer.topic_id)
        return answer.topic_id

    def publish(self, topic, data, qos=0, retain=False):
        """PUBLISH (6.6): a name (registered first if it is new), an int topic id, a Predefined or a Short.

        QoS 0 and -1 have no answer: a refusal of theirs shows up later as PUBACK in `trace`.
        """
        if isinstance(topic, str):
            topic = self.ids.get(topic) or self.register(topic)
        if qos in (0, -1):
            self.send(publish(topic, data, qos, retain))
            return None
        msg_id = self._next_msg_id()
        first, repeat = (publish(topic, data, qos, retain, dup, msg_id) for dup in (False, True))
        ends = (PUBACK, PUBREC) if qos == 2 else (PUBACK,)
        answer = self._request("PUBLISH", first, lambda m: m.type in ends and m.msg_id == msg_id, repeat)
        if answer.type == PUBACK:
            self._check("PUBLISH", answer.code)
            return msg_id
        self._request(
            "PUBREL", with_msg_id(PUBREL, msg_id), lambda m: m.type == PUBCOMP and m.msg_id == msg_id
        )
        return msg_id

    def subscribe(self, topic, qos=0):
        """SUBSCRIBE (6.9). Returns the SUBACK; its topic_id is 0 for filters with wildcards and short names."""
        msg_id = self._next_msg_id()
        first, repeat = (subscribe(topic, msg_id, qos, dup) for dup in (False, True))
        answer = self._request("SUBSCRIBE", first, lambda m: m.type == SUBACK and m.msg_id == msg_id, repeat)
        self._check("SUBSCRIBE", answer.code)
        if isinstance(topic, str) and answer.topic_id:
            self._learn(topic, answer.topic_id)
        return answer

    def unsubscribe(self, topic):
        """UNSUBSCRIBE (6.9)."""
        msg_id = self._next_msg_id()
        datagram = unsubscribe(topic, msg_id)
        self._request("UNSUBSCRIBE", datagram, lambda m: m.type == UNSUBACK and m.msg_id == msg_id)

    def receive(self, timeout=5.0):
        """The next message of a subscription; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self.inbox and (left := deadline - time.monotonic()) > 0:
            message = self.next_message(left)
            if message is not None:
                self._handle(message)
        return self.inbox.popleft() if self.inbox else None

    def idle(self, seconds):
        """Stays `seconds`, answering the gateway."""
        self._pump(seconds)

    def received(self, msg_type):
        """All messages of a type that came so far."""
        return [m for direction, m in self.trace if direction == "received" and m.type == msg_type]

    @staticmethod
    def _check(what, code):
        if code != ACCEPTED:
            raise Refused(what, code)


# ---- discovery (6.1) ----------------------------------------------------------------------------------------------


def multicast_socket(group, port, interface="127.0.0.1"):
    """A socket that hears an IPv4 multicast group, for ADVERTISE and for GWINFO by multicast."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((group, port))
    membership = socket.inet_aton(group) + socket.inet_aton(interface)
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return listener


def search_gateway(address, radius=0, timeout=2.0, interface="127.0.0.1"):
    """SEARCHGW to a unicast or multicast address; the GWINFO messages that come back to the same socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        sender.sendto(searchgw(radius), address)
        return listen(sender, GWINFO, timeout)


def listen(listener, msg_type, timeout):
    """All messages of a type that come to a socket within `timeout` seconds, with their source."""
    found, deadline = [], time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            datagram, source = listener.recvfrom(65535)
        except socket.timeout:
            break
        message = decode(datagram)
        if message.type == msg_type:
            message.fields["source"] = source
            found.append(message)
    return found


if __name__ == "__main__":
    import sn_client_selftest

    sn_client_selftest.main()
