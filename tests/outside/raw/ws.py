"""WebSocket by hand (RFC 6455): an opening handshake, frames, and a client connection on top of them."""

import asyncio
import base64
import hashlib
import os
import ssl

import wire
from conn import Conn, Failed

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(payload, opcode=BINARY, fin=True, mask=True, rsv=0):
    """A frame of a client; masked as the RFC demands unless a test wants it otherwise."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + len(payload).to_bytes(8, "big")
    if not mask:
        return head + payload
    key = os.urandom(4)
    stream = (key * (len(payload) // 4 + 1))[:len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(payload), "big")
    return head + key + masked


async def read_frame(reader):
    """(opcode, payload, fin) of the next frame of the server."""
    first, second = await reader.readexactly(2)
    if second & 0x80:
        raise wire.WireError("a masked frame from the server")
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2), "big")
    elif length == 127:
        length = int.from_bytes(await reader.readexactly(8), "big")
    if first & 0x70:
        raise wire.WireError("reserved bits in a frame of the server")
    return first & 15, await reader.readexactly(length), bool(first & 0x80)


def trusting(broker):
    """A TLS context that trusts the broker's own certificate and checks the name."""
    context = ssl.create_default_context(cafile=str(broker.ca_file()))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def stream(t, listener, tls=None):
    """A byte stream to a listener, over TLS where the listener has it."""
    host, _, port = t.endpoints[f"{listener}:default"].rpartition(":")
    secure = listener in ("tls", "wss")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=(tls or trusting(t.broker)) if secure else None,
        server_hostname="localhost" if secure else None, limit=1 << 22)
    t.conns.append(Conn(reader, writer, t.v, "stream"))
    return reader, writer


async def handshake(reader, writer, path="/mqtt", protocols="mqtt", headers=(), version="13"):
    """The opening handshake; returns (status, headers in lower case, the key sent)."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Version: {version}"]
    if protocols is not None:
        lines.append(f"Sec-WebSocket-Protocol: {protocols}")
    writer.write(("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode())
    return (*await response(reader), key)


async def response(reader):
    """(status, headers) of an HTTP response; 0 when the connection was closed instead."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, {}
    except asyncio.TimeoutError:
        raise Failed("no answer to the HTTP request within 5 s") from None
    first, *rest = head.decode().split("\r\n")
    pairs = [line.split(":", 1) for line in rest if ":" in line]
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def accept_of(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


class WsWriter:
    """What `Conn` writes to: each write is one binary frame."""

    def __init__(self, writer):
        self.writer, self.transport = writer, writer.transport

    def write(self, data):
        self.writer.write(frame(data))

    def raw(self, data):
        self.writer.write(data)

    async def drain(self):
        await self.writer.drain()

    def close(self):
        self.writer.close()

    async def wait_closed(self):
        await self.writer.wait_closed()


async def pump(reader, into, seen):
    """Moves the payload of binary frames into a byte stream until the server closes."""
    try:
        while True:
            opcode, payload, fin = await read_frame(reader)
            seen.append((opcode, payload))
            if opcode in (BINARY, CONTINUATION):
                into.feed_data(payload)
            elif opcode == CLOSE:
                break
            elif opcode == TEXT:
                into.set_exception(wire.WireError("a text frame from the server"))
                return
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        pass
    except wire.WireError as e:
        into.set_exception(e)
        return
    into.feed_eof()


async def open_ws(t, name="c", listener="ws", path="/mqtt", protocols="mqtt", v=None, want=101):
    """A `Conn` over WebSocket on which nothing of MQTT has been sent. `conn.frames` lists the server's frames."""
    reader, writer = await stream(t, listener)
    status, headers, key = await handshake(reader, writer, path, protocols)
    if status != want:
        raise Failed(f"{path} with {protocols!r}: HTTP {status} instead of {want}")
    if status != 101:
        return None
    if headers.get("sec-websocket-accept") != accept_of(key):
        raise Failed("a wrong Sec-WebSocket-Accept")
    into = asyncio.StreamReader(limit=1 << 22)
    conn = Conn(into, WsWriter(writer), v or t.v, name)
    conn.frames, conn.headers = [], headers
    conn.pump = asyncio.ensure_future(pump(reader, into, conn.frames))
    t.conns.append(conn)
    return conn


async def connect_ws(t, name="c", **options):
    conn = await open_ws(t, name, **options)
    conn.send(wire.connect(t.cid(name), conn.v))
    await conn.connected()
    return conn
