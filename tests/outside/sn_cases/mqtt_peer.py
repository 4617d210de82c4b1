"""A blocking MQTT client over TCP and WebSocket on the builder and parser of the raw tests."""

import base64
import os
import socket
import time
from collections import deque

import wire
import ws

LIMIT = 15.0


class Mqtt:
    """A connected client; what it gets waits in `inbox` until it is asked for."""

    def __init__(self, broker, client_id, v=5, transport="tcp", **options):
        self.v, self.websocket = v, transport == "ws"
        self.inbox = deque()
        self.pid = 0
        self.raw = b""  # bytes of the socket
        self.stream = b""  # bytes of MQTT
        host, _, port = broker.endpoints[f"{transport}:default"].rpartition(":")
        self.socket = socket.create_connection((host, int(port)), LIMIT)
        if self.websocket:
            self._upgrade()
        self._send(wire.connect(client_id, v, **options))
        self.connack = self._packet(LIMIT)
        if self.connack is None or self.connack.kind != wire.CONNACK or self.connack.rc:
            raise AssertionError(f"MQTT CONNECT: {self.connack}")

    def close(self):
        self.socket.close()

    # ---- bytes ----

    def _upgrade(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.raw:
            self.raw += self.socket.recv(65536)
        head, _, self.raw = self.raw.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise AssertionError(head.decode(errors="replace"))

    def _send(self, data):
        self.socket.sendall(ws.frame(data) if self.websocket else data)

    def _read(self, timeout):
        """Takes more bytes in; False after `timeout` seconds."""
        self.socket.settimeout(max(timeout, 0.001))
        try:
            data = self.socket.recv(65536)
        except socket.timeout:
            return False
        if not data:
            raise ConnectionError("the broker closed the connection")
        if not self.websocket:
            self.stream += data
            return True
        self.raw += data
        while len(self.raw) >= 2:
            size, at = self.raw[1] & 0x7F, 2
            if size == 126:
                size, at = int.from_bytes(self.raw[2:4], "big"), 4
            elif size == 127:
                size, at = int.from_bytes(self.raw[2:10], "big"), 10
            if len(self.raw) < at + size:
                break
            if self.raw[0] & 15 in (ws.BINARY, ws.CONTINUATION):
                self.stream += self.raw[at:at + size]
            self.raw = self.raw[at + size:]
        return True

    def _packet(self, timeout):
        """The next packet; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            packet = self._parse()
            if packet is not None:
                return packet
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                if time.monotonic() >= end:
                    return None

    def _parse(self):
        length = shift = 0
        for at in range(1, min(len(self.stream), 5)):
            length |= (self.stream[at] & 0x7F) << shift
            shift += 7
            if self.stream[at] < 0x80:
                end = at + 1 + length
                if len(self.stream) < end:
                    return None
                first, body, self.stream = self.stream[0], self.stream[at + 1:end], self.stream[end:]
                return wire.parse(first >> 4, first & 15, body, self.v)
        return None

    # ---- packets ----

    def _take(self, packet):
        """Acknowledges a PUBLISH and keeps it; answers PUBREL."""
        if packet.kind == wire.PUBLISH:
            self.inbox.append(packet)
            if packet.qos:
                self._send(wire.ack(wire.PUBACK if packet.qos == 1 else wire.PUBREC, packet.pid))
        elif packet.kind == wire.PUBREL:
            self._send(wire.ack(wire.PUBCOMP, packet.pid))

    def _await(self, kind):
        end = time.monotonic() + LIMIT
        while (left := end - time.monotonic()) > 0:
            packet = self._packet(left)
            if packet is None:
                break
            if packet.kind == kind:
                return packet
            self._take(packet)
        raise AssertionError(f"no {wire.NAMES[kind]}")

    def _next_pid(self):
        self.pid = self.pid % 65535 + 1
        return self.pid

    def subscribe(self, topic, qos=2, options=0):
        self._send(wire.subscribe(self._next_pid(), [(topic, qos | options)], self.v))
        suback = self._await(wire.SUBACK)
        if suback.rcs[0] >= 0x80:
            raise AssertionError(f"{topic}: {suback}")
        return suback

    def publish(self, topic, payload=b"", qos=0, retain=False, properties=None):
        pid = self._next_pid() if qos else None
        self._send(wire.publish(topic, payload, qos, pid, self.v, retain=retain, properties=properties))
        if qos == 1:
            return self._await(wire.PUBACK)
        if qos == 2:
            rec = self._await(wire.PUBREC)
            self._send(wire.ack(wire.PUBREL, pid))
            self._await(wire.PUBCOMP)
            return rec
        return None

    def ping(self):
        """Returns when all before it has been handled."""
        self._send(wire.pingreq())
        self._await(wire.PINGRESP)

    def message(self, timeout=LIMIT):
        """The next message; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not self.inbox and (left := end - time.monotonic()) > 0:
            packet = self._packet(left)
            if packet is not None:
                self._take(packet)
        return self.inbox.popleft() if self.inbox else None

    def messages(self, quiet=0.4):
        """What comes until it is quiet, as (topic, payload)."""
        found = []
        while (packet := self.message(quiet)) is not None:
            found.append((packet.topic, packet.payload))
        return found

    def expect(self, topic, payload, timeout=LIMIT):
        """The next message is this one."""
        packet = self.message(timeout)
        if packet is None or (packet.topic, packet.payload) != (topic, payload):
            raise AssertionError(f"expected {payload!r} on {topic}, got {packet}")
        return packet

    def disconnect(self):
        self._send(wire.disconnect())
        self.close()
