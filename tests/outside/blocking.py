"""A blocking MQTT client over TCP, TLS, WebSocket and secure WebSocket, from any loopback address.

For tests of what stands around the broker (proxies, images, packages): a few packets, each parsed strictly by `wire`.
"""

import base64
import os
import pathlib
import socket
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "raw"))

import wire  # noqa: E402
import ws  # noqa: E402

# How long an answer may take. Far above what a loaded machine needs.
ANSWER = 10.0


class Failed(Exception):
    """What came is not what the case expects."""


def check(condition, what):
    if not condition:
        raise Failed(str(what))


def until(condition, what, timeout=ANSWER, pause=0.05):
    """Waits until `condition()` is true and returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(pause)


def trusting(ca_file, cert=None, key=None):
    """A TLS context that trusts one authority and shows a certificate if given one."""
    context = ssl.create_default_context(cafile=str(ca_file))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert:
        context.load_cert_chain(str(cert), str(key))
    return context


class Client:
    """One connection. Everything that is sent waits for its answer."""

    def __init__(self, port, cid="", v=5, host="127.0.0.1", source=None, tls=None, websocket=False, name="localhost",
                 headers=(), path="/mqtt", rc=0, timeout=ANSWER, **options):
        """Connects; `rc` is what CONNACK must say, None for whatever it says. `tls` is a context."""
        self.v, self.pid, self.stash, self.buffer, self.websocket = v, 0, [], b"", websocket
        self.sock = socket.create_connection((host, port), timeout, source_address=(source, 0) if source else None)
        self.sock.settimeout(timeout)
        try:
            if tls:
                self.sock = tls.wrap_socket(self.sock, server_hostname=name)
            if websocket:
                self._upgrade(name, path, headers)
            self.send(wire.connect(cid, v, **options))
            self.connack = self.packet()
            check(self.connack is not None, "closed before CONNACK")
            check(self.connack.kind == wire.CONNACK, self.connack)
            check(rc is None or self.connack.rc == rc, self.connack)
        except BaseException:
            self.sock.close()
            raise

    # ---- bytes ----

    def _upgrade(self, name, path, headers):
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {name}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt", *headers]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            check(byte, f"closed within the answer to the upgrade: {head!r}")
            head += byte
        check(head.split(b" ", 2)[1] == b"101", f"no upgrade: {head.splitlines()[0]!r}")
        check(ws.accept_of(key).encode() in head, "a wrong Sec-WebSocket-Accept")

    def _exactly(self, count):
        """That many bytes of the stream; None if it ends."""
        out = b""
        while len(out) < count:
            chunk = self.sock.recv(count - len(out))
            if not chunk:
                return None
            out += chunk
        return out

    def _frame(self):
        """Adds the payload of the next frame to the buffer; False at the end."""
        head = self._exactly(2)
        if head is None:
            return False
        length = head[1] & 0x7F
        if length > 125:
            size = self._exactly(2 if length == 126 else 8)
            if size is None:
                return False
            length = int.from_bytes(size, "big")
        payload = self._exactly(length) if length else b""
        if payload is None or head[0] & 15 == ws.CLOSE:
            return False
        if head[0] & 15 in (ws.BINARY, ws.CONTINUATION):
            self.buffer += payload
        return True

    def _take(self, count):
        """That many bytes of MQTT; None at the end of the connection."""
        if not self.websocket:
            return self._exactly(count)
        while len(self.buffer) < count:
            if not self._frame():
                return None
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, data):
        self.sock.sendall(ws.frame(data) if self.websocket else data)

    def packet(self, timeout=None):
        """The next packet; None when the connection is closed."""
        if timeout is not None:
            self.sock.settimeout(timeout)
        try:
            first = self._take(1)
            if first is None:
                return None
            length = shift = 0
            while True:
                digit = self._take(1)
                if digit is None:
                    return None
                length |= (digit[0] & 0x7F) << shift
                shift += 7
                if digit[0] < 0x80:
                    break
            body = self._take(length) if length else b""
            if body is None:
                return None
        except (ConnectionError, ssl.SSLError):
            return None
        return wire.parse(first[0] >> 4, first[0] & 15, body, self.v)

    # ---- packets ----

    def answer(self, kind):
        """The next packet of this kind; messages that come before it are kept for `message`."""
        while True:
            packet = self.packet()
            check(packet is not None, f"closed instead of {wire.NAMES[kind]}")
            if packet.kind == kind:
                return packet
            check(packet.kind == wire.PUBLISH, f"{packet} instead of {wire.NAMES[kind]}")
            self._keep(packet)

    def _keep(self, packet):
        if packet.qos == 1:
            self.send(wire.ack(wire.PUBACK, packet.pid))
        self.stash.append(packet)

    def message(self, timeout=ANSWER):
        """The next message, acknowledged."""
        if not self.stash:
            self.sock.settimeout(timeout)
            try:
                self._keep(self.answer(wire.PUBLISH))
            except TimeoutError:
                raise Failed(f"no message within {timeout:g} s") from None
        return self.stash.pop(0)

    def subscribe(self, topic, qos=1):
        """Subscribes with QoS 0 or 1; returns the reason code."""
        self.pid += 1
        self.send(wire.subscribe(self.pid, [(topic, qos)], self.v))
        return self.answer(wire.SUBACK).rcs[0]

    def publish(self, topic, payload=b"", qos=1, retain=False):
        """Publishes with QoS 0 or 1; returns the reason code of PUBACK."""
        self.pid += 1
        self.send(wire.publish(topic, payload, qos, self.pid if qos else None, self.v, retain=retain))
        return self.answer(wire.PUBACK).rc if qos else 0

    def ping(self):
        self.send(wire.pingreq())
        self.answer(wire.PINGRESP)

    def end(self):
        """DISCONNECT and close."""
        try:
            self.send(wire.disconnect())
        except OSError:
            pass
        self.sock.close()

    def drop(self):
        """Closes without DISCONNECT, so that a will is published."""
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
