"""A client of the raw tests: it sends bytes and says what must come back.

Every packet received is parsed by `wire.parse`, so a malformed answer fails the row that got it,
whatever the row was about. Nothing is acknowledged unless a method says so.
"""

import asyncio

import wire

# How long an answer may take. Far above what a loaded machine needs: a wait that ends by this limit fails.
ANSWER = 8.0
# How long "nothing arrives" is watched before the PINGREQ that closes the watch.
QUIET = 0.25


class Failed(Exception):
    """What came is not what the row expects."""


class Silence(Failed):
    """Nothing came in time."""


def codes(given):
    """A code or several as a set."""
    return {given} if isinstance(given, int) else set(given)


class Conn:
    """One network connection to the broker."""

    def __init__(self, reader, writer, v, name):
        self.reader, self.writer, self.v, self.name = reader, writer, v, name
        self.next_pid = 0
        self.connack = None
        self.log = []
        self.stash = []

    # ---- bytes and packets ----

    def send(self, *chunks):
        for chunk in chunks:
            self.writer.write(chunk)
        return self

    def pid(self):
        self.next_pid += 1
        return self.next_pid

    async def recv(self, timeout=ANSWER):
        """The next packet, or None when the connection is closed."""
        if self.stash:
            return self.stash.pop(0)
        return await self._fresh(timeout)

    async def _fresh(self, timeout):
        try:
            packet = await asyncio.wait_for(self._read(), timeout)
        except asyncio.TimeoutError:
            raise Silence(f"{self.name}: nothing came within {timeout:g} s; before: {self.log[-4:]}") from None
        self.log.append(packet)
        return packet

    async def _read(self):
        try:
            first = (await self.reader.readexactly(1))[0]
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            return None
        try:
            length = shift = 0
            digits = b""
            while True:
                digit = (await self.reader.readexactly(1))[0]
                digits += bytes([digit])
                length |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80:
                    break
                if shift > 21:
                    raise wire.WireError("a remaining length of more than four bytes")
            if digits != wire.varint(length):
                raise wire.WireError("a remaining length that is not in its shortest form")
            body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, OSError) as e:
            raise Failed(f"{self.name}: the connection closed in the middle of a packet") from e
        packet = wire.parse(first >> 4, first & 15, body, self.v)
        if packet.kind == wire.CONNACK:
            if self.connack:
                raise wire.WireError("a second CONNACK")
            self.connack = packet
        elif not self.connack and packet.kind != wire.AUTH:
            raise wire.WireError(f"{packet} before CONNACK")
        return packet

    async def expect(self, kind, timeout=ANSWER, **fields):
        """The next packet, which must be of `kind` with these fields (rc may be a set)."""
        packet = await self.recv(timeout)
        if packet is None:
            raise Failed(f"{self.name}: closed instead of {wire.NAMES[kind]}; before: {self.log[-4:]}")
        return self._fits(packet, kind, fields)

    async def answer(self, kind, **fields):
        """As `expect`, but deliveries that come before the answer are kept for later: the standard sets no order
        between the two."""
        packet = await self._fresh(ANSWER)
        while packet is not None and packet.kind == wire.PUBLISH:
            self.stash.append(packet)
            packet = await self._fresh(ANSWER)
        if packet is None:
            raise Failed(f"{self.name}: closed instead of {wire.NAMES[kind]}; before: {self.log[-4:]}")
        return self._fits(packet, kind, fields)

    def _fits(self, packet, kind, fields):
        if packet.kind != kind:
            raise Failed(f"{self.name}: {packet} instead of {wire.NAMES[kind]}")
        for field, want in fields.items():
            got = getattr(packet, field)
            good = got in codes(want) if field == "rc" else got == want
            if not good:
                raise Failed(f"{self.name}: {packet}: {field} is not {want!r}")
        return packet

    async def expect_close(self, timeout=ANSWER):
        """The server closes the connection and sends nothing before."""
        packet = await self.recv(timeout)
        if packet is not None:
            raise Failed(f"{self.name}: {packet} instead of a close")

    async def expect_end(self, rc, timeout=ANSWER):
        """The server ends the connection: 5.0 by DISCONNECT with this code, 3.x by the close alone."""
        if self.v == 5:
            packet = await self.expect(wire.DISCONNECT, timeout, rc=rc)
            if "session_expiry" in packet.properties:
                raise Failed("Session Expiry Interval in a DISCONNECT of the server")
        await self.expect_close(timeout)

    async def quiet(self, seconds=QUIET):
        """Nothing arrives for a while and the connection still answers PINGREQ."""
        await asyncio.sleep(seconds)
        await self.ping()

    async def ping(self):
        self.send(wire.pingreq())
        await self.expect(wire.PINGRESP)

    # ---- what a client does ----

    async def connected(self, rc=0, timeout=ANSWER, **fields):
        return await self.expect(wire.CONNACK, timeout, rc=rc, **fields)

    async def subscribe(self, *filters, qos=0, no_local=False, rap=False, handling=0, ident=None, want=None):
        """SUBSCRIBE and its SUBACK; returns the codes. Filters are strings or (filter, options).
        `want` is what each code must be (by default the QoS asked for)."""
        options = qos | (4 if no_local else 0) | (8 if rap else 0) | handling << 4
        pairs = [f if isinstance(f, tuple) else (f, options) for f in filters]
        pid = self.pid()
        self.send(wire.subscribe(pid, pairs, self.v, {"subscription_id": ident} if ident else None))
        suback = await self.answer(wire.SUBACK, pid=pid)
        wanted = [o & 3 for _, o in pairs] if want is None else want
        if suback.rcs != wanted:
            raise Failed(f"{self.name}: {suback}: codes are not {[hex(w) for w in wanted]}")
        return suback

    async def unsubscribe(self, *filters, want=None):
        pid = self.pid()
        self.send(wire.unsubscribe(pid, filters, self.v))
        unsuback = await self.answer(wire.UNSUBACK, pid=pid)
        wanted = ([0] * len(filters) if want is None else want) if self.v == 5 else []
        if unsuback.rcs != wanted:
            raise Failed(f"{self.name}: {unsuback}: codes are not {wanted}")
        return unsuback

    def post(self, topic, payload=b"", qos=0, pid=None, **more):
        """PUBLISH without waiting for anything; returns the packet identifier."""
        pid = (pid or self.pid()) if qos else None
        self.send(wire.publish(topic, payload, qos, pid, self.v, **more))
        return pid

    async def publish(self, topic, payload=b"", qos=0, rc=(0, 0x10), **more):
        """PUBLISH and the whole acknowledgement; returns the packet with the outcome."""
        pid = self.post(topic, payload, qos, **more)
        if qos == 0:
            return None
        if qos == 1:
            return await self.answer(wire.PUBACK, pid=pid, rc=rc)
        packet = await self.answer(wire.PUBREC, pid=pid, rc=rc)
        if packet.rc < 0x80:
            self.send(wire.ack(wire.PUBREL, pid))
            await self.answer(wire.PUBCOMP, pid=pid, rc=0)
        return packet

    async def message(self, topic=None, payload=None, qos=None, retain=False, dup=False, ack=True, timeout=ANSWER):
        """The next packet, which must be this PUBLISH; acknowledged in full unless `ack` is False."""
        packet = await self.expect(wire.PUBLISH, timeout)
        for field, want in (("topic", topic), ("payload", payload), ("qos", qos), ("retain", retain), ("dup", dup)):
            if want is not None and getattr(packet, field) != want:
                raise Failed(f"{self.name}: {packet}: {field} is not {want!r}")
        if ack:
            await self.acknowledge(packet)
        return packet

    async def acknowledge(self, packet):
        if packet.qos == 1:
            self.send(wire.ack(wire.PUBACK, packet.pid))
        elif packet.qos == 2:
            self.send(wire.ack(wire.PUBREC, packet.pid))
            await self.answer(wire.PUBREL, pid=packet.pid, rc=0)
            self.send(wire.ack(wire.PUBCOMP, packet.pid))

    async def messages(self, count, timeout=ANSWER):
        """So many PUBLISH packets in a row, acknowledged; the server's other packets fail the row."""
        return [await self.message(retain=None, dup=None, timeout=timeout) for _ in range(count)]

    async def ask(self, wanted, forbidden=lambda p: False, timeout=ANSWER):
        """Reads PUBLISH packets, acknowledged, until one is `wanted`; others are passed over unless `forbidden`.
        For filters so wide that messages of other rows arrive too."""
        while True:
            packet = await self.message(retain=None, dup=None, timeout=timeout)
            if forbidden(packet):
                raise Failed(f"{self.name}: {packet} must not arrive")
            if wanted(packet):
                return packet

    # ---- ends ----

    async def disconnect(self, rc=None, properties=None):
        """DISCONNECT, then the close by the server, which tells that it has been handled."""
        self.send(wire.disconnect(rc, properties))
        await self.expect_close()
        await self.close()

    async def drop(self, settle=0.15):
        """The network connection ends without DISCONNECT; waits until the server has had time to see it."""
        self.writer.transport.abort()
        await asyncio.sleep(settle)

    async def close(self):
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), 1)
        except (asyncio.TimeoutError, ConnectionError, OSError):
            pass
