"""MQTT on the wire: a small packet builder and a strict parser.

Written from the text of the MQTT 3.1, 3.1.1 and 5.0 standards and kept apart from the broker's own
codec on purpose: a mistake that both made would hide itself. The builder can make illegal packets
(every field can be overridden); the parser refuses whatever a server must not send.
"""

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT, AUTH = 12, 13, 14, 15

NAMES = [
    "reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
]

# Property name: (identifier, kind, packets that a server may put it in).
PROPERTIES = {
    "payload_format": (0x01, "u8", {PUBLISH}),
    "message_expiry": (0x02, "u32", {PUBLISH}),
    "content_type": (0x03, "str", {PUBLISH}),
    "response_topic": (0x08, "str", {PUBLISH}),
    "correlation_data": (0x09, "bin", {PUBLISH}),
    "subscription_id": (0x0B, "varint", {PUBLISH}),
    "session_expiry": (0x11, "u32", {CONNACK}),
    "assigned_client_id": (0x12, "str", {CONNACK}),
    "server_keep_alive": (0x13, "u16", {CONNACK}),
    "auth_method": (0x15, "str", {CONNACK, AUTH}),
    "auth_data": (0x16, "bin", {CONNACK, AUTH}),
    "request_problem_info": (0x17, "u8", set()),
    "will_delay": (0x18, "u32", set()),
    "request_response_info": (0x19, "u8", set()),
    "response_info": (0x1A, "str", {CONNACK}),
    "server_reference": (0x1C, "str", {CONNACK, DISCONNECT}),
    "reason_string": (0x1F, "str", {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}),
    "receive_maximum": (0x21, "u16", {CONNACK}),
    "topic_alias_maximum": (0x22, "u16", {CONNACK}),
    "topic_alias": (0x23, "u16", {PUBLISH}),
    "maximum_qos": (0x24, "u8", {CONNACK}),
    "retain_available": (0x25, "u8", {CONNACK}),
    "user_property": (0x26, "pair", {CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}),
    "maximum_packet_size": (0x27, "u32", {CONNACK}),
    "wildcard_available": (0x28, "u8", {CONNACK}),
    "subscription_ids_available": (0x29, "u8", {CONNACK}),
    "shared_available": (0x2A, "u8", {CONNACK}),
}
BY_ID = {ident: (name, kind, packets) for name, (ident, kind, packets) in PROPERTIES.items()}

# Reason codes a server may use, by packet (standard 5.0, section 2.4 and the tables of chapter 3).
CODES = {
    CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
              0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
                 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
    AUTH: {0x00, 0x18},
}


class WireError(Exception):
    """The server sent bytes that the standard does not allow."""


# ---- building ----------------------------------------------------------------------------------


def varint(n):
    """Variable Byte Integer in its shortest form."""
    out = bytearray()
    while True:
        n, digit = divmod(n, 128)
        out.append(digit | (0x80 if n else 0))
        if not n:
            return bytes(out)


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def text(s):
    """A UTF-8 string, or raw bytes in its place, with the two-byte length."""
    data = s if isinstance(s, bytes) else s.encode()
    return u16(len(data)) + data


def prop(name, value):
    """One property: identifier and value."""
    ident, kind, _ = PROPERTIES[name]
    if kind == "u8":
        body = bytes([value])
    elif kind == "u16":
        body = u16(value)
    elif kind == "u32":
        body = u32(value)
    elif kind == "varint":
        body = varint(value)
    elif kind == "pair":
        body = text(value[0]) + text(value[1])
    else:
        body = text(value)
    return bytes([ident]) + body


def props(given):
    """The property section with its length. `given` is a dict (a list value repeats the property),
    or bytes, taken as the property bytes as they are."""
    if isinstance(given, bytes):
        return varint(len(given)) + given
    body = b""
    for name, value in (given or {}).items():
        for one in value if isinstance(value, list) else [value]:
            body += prop(name, one)
    return varint(len(body)) + body


def frame(kind, flags, body=b"", length=None):
    """A packet from its type, flag bits and what follows the fixed header."""
    return bytes([kind << 4 | flags]) + (varint(len(body)) if length is None else length) + body


def connect(client_id="", v=5, clean=True, keep_alive=0, will=None, user=None, password=None,
            properties=None, flags=None, name=None, level=None, tail=b"", header_flags=0):
    """CONNECT. `will` is (topic, payload, qos, retain) or (..., properties)."""
    bits = 0x02 if clean else 0
    payload = text(client_id)
    if will:
        topic, message, qos, retain = will[:4]
        bits |= 0x04 | qos << 3 | (0x20 if retain else 0)
        if v == 5:
            payload += props(will[4] if len(will) > 4 else None)
        payload += text(topic) + text(message)
    if user is not None:
        bits |= 0x80
        payload += text(user)
    if password is not None:
        bits |= 0x40
        payload += text(password)
    body = text(name if name is not None else ("MQIsdp" if v == 3 else "MQTT"))
    body += bytes([v if level is None else level, bits if flags is None else flags]) + u16(keep_alive)
    if v == 5:
        body += props(properties)
    return frame(CONNECT, header_flags, body + payload + tail)


def publish(topic, payload=b"", qos=0, pid=None, v=5, dup=False, retain=False, properties=None):
    body = text(topic)
    if pid is not None:
        body += u16(pid)
    if v == 5:
        body += props(properties)
    return frame(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body + payload)


def ack(kind, pid, rc=None, properties=None, v=5, flags=None):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; the code and properties only where given."""
    body = u16(pid)
    if rc is not None or properties is not None:
        body += bytes([rc or 0])
    if properties is not None:
        body += props(properties)
    return frame(kind, (2 if kind == PUBREL else 0) if flags is None else flags, body)


def subscribe(pid, filters, v=5, properties=None, flags=2):
    """SUBSCRIBE; `filters` is a list of (topic filter, options byte)."""
    body = u16(pid) + (props(properties) if v == 5 else b"")
    for topic_filter, options in filters:
        body += text(topic_filter) + bytes([options])
    return frame(SUBSCRIBE, flags, body)


def unsubscribe(pid, filters, v=5, properties=None, flags=2):
    body = u16(pid) + (props(properties) if v == 5 else b"")
    for topic_filter in filters:
        body += text(topic_filter)
    return frame(UNSUBSCRIBE, flags, body)


def pingreq():
    return frame(PINGREQ, 0)


def disconnect(rc=None, properties=None):
    body = b"" if rc is None and properties is None else bytes([rc or 0])
    if properties is not None:
        body += props(properties)
    return frame(DISCONNECT, 0, body)


def auth(rc=None, properties=None):
    body = b"" if rc is None and properties is None else bytes([rc or 0])
    if properties is not None:
        body += props(properties)
    return frame(AUTH, 0, body)


# ---- parsing -----------------------------------------------------------------------------------


class Packet:
    """A packet from the server; only the fields of its type are set."""

    def __init__(self, kind, flags, size):
        self.kind, self.flags, self.size = kind, flags, size
        self.name = NAMES[kind]
        self.properties = {}

    def __repr__(self):
        fields = {k: v for k, v in vars(self).items() if k not in ("kind", "name", "flags", "size")}
        for key in ("rc", "rcs"):
            if key in fields:
                fields[key] = hex(fields[key]) if key == "rc" else [hex(c) for c in fields[key]]
        payload = fields.get("payload")
        if payload and len(payload) > 60:
            fields["payload"] = payload[:60] + b"..."
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in fields.items())})"


class Reader:
    """Reads the fields of one packet's body; running past its end is an error of the server."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise WireError("a field runs past the end of the packet")
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return int.from_bytes(self.take(2), "big")

    def u32(self):
        return int.from_bytes(self.take(4), "big")

    def varint(self):
        value, digits = 0, b""
        for i in range(4):
            digit = self.u8()
            digits += bytes([digit])
            value |= (digit & 0x7F) << 7 * i
            if not digit & 0x80:
                if digits != varint(value):
                    raise WireError("a Variable Byte Integer is not in its shortest form")
                return value
        raise WireError("a Variable Byte Integer has more than four bytes")

    def bin(self):
        return self.take(self.u16())

    def text(self):
        try:
            s = self.bin().decode("utf-8")
        except UnicodeDecodeError as e:
            raise WireError(f"a string is not UTF-8: {e}") from e
        if "\0" in s:
            raise WireError("a string holds U+0000")
        return s

    def rest(self):
        return self.take(len(self.data) - self.at)

    def empty(self):
        return self.at == len(self.data)

    def properties(self, kind):
        end = self.varint() + self.at
        if end > len(self.data):
            raise WireError("the property length runs past the packet")
        found = {}
        while self.at < end:
            ident = self.varint()
            if ident not in BY_ID:
                raise WireError(f"unknown property {ident:#x} in {NAMES[kind]}")
            name, form, packets = BY_ID[ident]
            if kind not in packets:
                raise WireError(f"property {name} in {NAMES[kind]}")
            if form == "pair":
                value = (self.text(), self.text())
            else:
                value = {"u8": self.u8, "u16": self.u16, "u32": self.u32, "varint": self.varint,
                         "str": self.text, "bin": self.bin}[form]()
            if name in ("user_property", "subscription_id"):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise WireError(f"property {name} twice in {NAMES[kind]}")
            else:
                found[name] = value
        if self.at != end:
            raise WireError("a property runs past the property length")
        return found


def parse(kind, flags, body, v):
    """A Packet, or WireError when a server must not send it to a client of version `v`."""
    if kind in (0, CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ) or (kind == AUTH and v != 5):
        raise WireError(f"a server must not send {NAMES[kind]}")
    if kind == DISCONNECT and v != 5:
        raise WireError("DISCONNECT from the server exists in 5.0 only")
    if kind != PUBLISH and flags != (2 if kind == PUBREL else 0):
        raise WireError(f"{NAMES[kind]} with flag bits {flags:04b}")
    packet = Packet(kind, flags, 1 + len(varint(len(body))) + len(body))
    r = Reader(body)
    if kind == CONNACK:
        bits = r.u8()
        if bits & 0xFE:
            raise WireError("reserved bits set in the CONNACK flags")
        if bits and v == 3:
            raise WireError("session present does not exist in MQTT 3.1")
        packet.session_present = bool(bits)
        packet.rc = r.u8()
        if v == 5:
            packet.properties = r.properties(kind)
        elif packet.rc > 5:
            raise WireError(f"CONNACK return code {packet.rc}")
        if packet.rc and packet.session_present:
            raise WireError("session present with a refusal")
    elif kind == PUBLISH:
        packet.dup, packet.qos, packet.retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
        if packet.qos == 3 or (packet.dup and packet.qos == 0):
            raise WireError(f"PUBLISH with flag bits {flags:04b}")
        packet.topic = r.text()
        packet.pid = r.u16() if packet.qos else None
        if packet.pid == 0:
            raise WireError("packet identifier 0")
        if v == 5:
            packet.properties = r.properties(kind)
        if "#" in packet.topic or "+" in packet.topic:
            raise WireError("a wildcard in a topic name")
        if not packet.topic and "topic_alias" not in packet.properties:
            raise WireError("an empty topic name without a topic alias")
        if packet.properties.get("topic_alias") == 0:
            raise WireError("topic alias 0")
        packet.payload = r.rest()
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        packet.pid = r.u16()
        packet.rc = r.u8() if v == 5 and not r.empty() else 0
        packet.properties = r.properties(kind) if v == 5 and not r.empty() else {}
    elif kind in (SUBACK, UNSUBACK):
        packet.pid = r.u16()
        if v == 5:
            packet.properties = r.properties(kind)
        packet.rcs = list(r.rest())
        if kind == UNSUBACK and v != 5 and packet.rcs:
            raise WireError("UNSUBACK of 3.x with a payload")
        allowed = CODES[kind] if v == 5 else {0, 1, 2, 0x80}
        if any(code not in allowed for code in packet.rcs):
            raise WireError(f"{packet} with an undefined code")
    elif kind in (DISCONNECT, AUTH):
        packet.rc = 0 if r.empty() else r.u8()
        packet.properties = {} if r.empty() else r.properties(kind)
    if not r.empty():
        raise WireError(f"{NAMES[kind]} with bytes after its end")
    if v == 5 and hasattr(packet, "rc") and packet.rc not in CODES[kind]:
        raise WireError(f"{packet} with an undefined code")
    return packet
