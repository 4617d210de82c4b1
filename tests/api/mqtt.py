"""A small MQTT 3.1.1 client on a socket: enough to be listed, kicked and written to."""

import socket
import struct


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(first, body):
    size, length = len(body), b""
    while True:
        byte, size = size % 128, size // 128
        length += bytes([byte | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


class Client:
    def __init__(self, port, client_id, username=None, clean=True, keep_alive=60):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.settimeout(5)
        flags = (2 if clean else 0) | (0x80 if username else 0)
        body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", keep_alive) + text(client_id)
        if username:
            body += text(username)
        self.send(packet(0x10, body))
        first, body = self.read()
        if first != 0x20 or body[1] != 0:
            raise ConnectionError(f"CONNACK {body.hex()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read(self):
        first, size, shift = self.exactly(1)[0], 0, 0
        while True:
            byte = self.exactly(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self.exactly(size)

    def subscribe(self, topic, qos=0):
        self.send(packet(0x82, b"\0\1" + text(topic) + bytes([qos])))
        first, body = self.read()
        if first != 0x90:
            raise ConnectionError(f"expected SUBACK, got {first:#x}")
        return body[2]

    def publish(self, topic, payload, retain=False):
        self.send(packet(0x31 if retain else 0x30, text(topic) + payload))

    def message(self):
        """Topic and payload of the next PUBLISH of QoS 0 or 1."""
        while True:
            first, body = self.read()
            if first >> 4 == 3:
                size = struct.unpack(">H", body[:2])[0]
                return body[2:2 + size].decode(), body[2 + size + (2 if first & 6 else 0):]

    def ping(self):
        self.send(b"\xc0\0")
        while self.read()[0] != 0xD0:
            pass

    def disconnect(self):
        self.send(b"\xe0\0")
        self.socket.close()

    def closed(self):
        try:
            while True:
                self.read()
        except (EOFError, ConnectionError):
            return True
        except TimeoutError:
            return False
