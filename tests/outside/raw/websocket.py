"""MQTT over WebSocket: sub-protocols, paths, frames."""

import asyncio

import wire
import ws
from rows import check, row


async def works(t, conn):
    await conn.subscribe(t.topic())
    conn.post(t.topic(), b"over ws")
    await conn.message(t.topic(), b"over ws")


@row(v="345", s4="6.0.0-4 6.0.0-1", s5="6.0.0-4 6.0.0-1")
async def sub_protocol_mqtt(t):
    for listener in ("ws", "wss"):
        conn = await ws.connect_ws(t, listener=listener)
        check(conn.headers.get("sec-websocket-protocol") == "mqtt", conn.headers)
        await works(t, conn)
        check({opcode for opcode, _ in conn.frames} == {ws.BINARY}, "other frames than binary ones")
        await conn.drop()


@row(v="4")
async def sub_protocols_of_old_clients(t):
    """`mqttv3.1`, `mqttv3.1.1`, a list, or none: exactly the chosen one is echoed, none where none was asked."""
    for asked, choices in (("mqttv3.1", {"mqttv3.1"}), ("mqttv3.1.1", {"mqttv3.1.1"}),
                           ("mqttv3.1, mqtt", {"mqtt", "mqttv3.1"}), ("chat, mqtt", {"mqtt"}),
                           ("mqtt,mqttv3.1.1", {"mqtt", "mqttv3.1.1"}), (None, {None})):
        conn = await ws.connect_ws(t, protocols=asked)
        check(conn.headers.get("sec-websocket-protocol") in choices, f"{asked}: {conn.headers}")
        await conn.ping()


@row(v="4")
async def unknown_sub_protocol(t):
    """None of ours in the list: refused, or accepted without an echo; never one that was not asked."""
    reader, writer = await ws.stream(t, "ws")
    status, headers, _ = await ws.handshake(reader, writer, protocols="chat, soap")
    check("sec-websocket-protocol" not in headers, headers)
    check(status in (101, 400, 0), status)


@row(v="5")
async def paths_in_lenient_mode(t):
    """The default path is /mqtt; `/`, `/ws` and a query string are served too, others get 404."""
    for path in ("/mqtt", "/", "/ws", "/mqtt?token=abc", "/?x"):
        await (await ws.connect_ws(t, path=path)).ping()
    for path in ("/other", "/mqtt/deeper", "/mqttx"):
        await ws.open_ws(t, path=path, want=404)


@row(v="345", s4="6.0.0-2", s5="6.0.0-2")
async def packets_split_and_joined_over_frames(t):
    conn = await ws.open_ws(t)
    for byte in wire.connect(t.cid(), t.v):
        conn.send(bytes([byte]))
    await conn.connected()
    joined = wire.subscribe(1, [(t.topic(), 0)], t.v) + wire.publish(t.topic(), b"one", v=t.v)
    joined += wire.publish(t.topic(), b"two", v=t.v)
    conn.send(joined[:-4])
    await asyncio.sleep(0.05)
    conn.send(joined[-4:] + wire.pingreq())
    # The standard lets deliveries come before the SUBACK [MQTT-3.8.4].
    await conn.answer(wire.SUBACK, pid=1)
    rest = [await conn.recv() for _ in range(3)]
    check([p.payload for p in rest if p.kind == wire.PUBLISH] == [b"one", b"two"], rest)


@row(v="345", s5="6.0.0-2", s4="6.0.0-2")
async def fragmented_messages(t):
    """A WebSocket message in several fragments, a ping between them; empty frames too."""
    conn = await ws.connect_ws(t)
    packet = wire.subscribe(1, [(t.topic(), 0)], t.v)
    raw = conn.writer.raw
    raw(ws.frame(packet[:3], fin=False))
    raw(ws.frame(b"are you there", ws.PING))
    raw(ws.frame(b"", ws.CONTINUATION, fin=False))
    raw(ws.frame(packet[3:], ws.CONTINUATION))
    raw(ws.frame(b""))
    await conn.expect(wire.SUBACK, pid=1)
    check((ws.PONG, b"are you there") in conn.frames, "no pong with the ping's payload")
    await conn.ping()


@row(v="345", s4="6.0.0-1", s5="6.0.0-1")
async def text_frames_are_refused(t):
    conn = await ws.connect_ws(t)
    conn.writer.raw(ws.frame(wire.pingreq(), ws.TEXT))
    packet = await conn.recv()
    check(packet is None or packet.kind == wire.DISCONNECT, packet)
    if packet is not None:
        await conn.expect_close()


@row(v="4", s4="6.0.0-1")
async def text_frame_before_connect(t):
    conn = await ws.open_ws(t)
    conn.writer.raw(ws.frame(wire.connect(t.cid(), t.v), ws.TEXT))
    await conn.expect_close()


@row(v="4")
async def frames_that_break_the_rfc(t):
    """Unmasked frames, reserved bits and unknown opcodes end the connection."""
    for bad in (ws.frame(wire.pingreq(), mask=False), ws.frame(wire.pingreq(), rsv=4), ws.frame(b"", 5),
                ws.frame(b"x", ws.CONTINUATION)):
        conn = await ws.connect_ws(t)
        conn.writer.raw(bad)
        await conn.expect_close()


@row(v="4")
async def close_frame_is_answered(t):
    conn = await ws.connect_ws(t)
    conn.writer.raw(ws.frame((1000).to_bytes(2, "big"), ws.CLOSE))
    await conn.expect_close()
    await conn.pump
    check(conn.frames and conn.frames[-1][0] == ws.CLOSE, conn.frames)


@row(v="45", s4="3.1.2-8", s5="3.1.2-8")
async def close_frame_without_disconnect_publishes_the_will(t):
    watcher = await t.connect("watcher")
    await watcher.subscribe(t.topic("will"))
    conn = await ws.open_ws(t)
    conn.send(wire.connect(t.cid(), t.v, will=(t.topic("will"), b"gone", 0, False)))
    await conn.connected()
    conn.writer.raw(ws.frame((1001).to_bytes(2, "big"), ws.CLOSE))
    await watcher.message(t.topic("will"), b"gone")


@row(v="345")
async def large_messages_both_ways(t):
    conn = await ws.connect_ws(t)
    await conn.subscribe(t.topic(), qos=1)
    for size in (125, 126, 127, 65535, 65536, 400000):
        payload = bytes(i * 7 % 251 for i in range(256)) * (size // 256 + 1)
        conn.post(t.topic(), payload[:size], 1)
        kinds = set()
        for _ in range(2):
            packet = await conn.recv()
            kinds.add(packet.kind)
            if packet.kind == wire.PUBLISH:
                check(packet.payload == payload[:size], f"{size} bytes changed")
                conn.send(wire.ack(wire.PUBACK, packet.pid))
        check(kinds == {wire.PUBLISH, wire.PUBACK}, kinds)


@row(v="5", s5="3.2.2-15")
async def frame_above_the_packet_limit(t):
    """A packet whose length is above max_packet_size: 0x95, whatever the frames are."""
    conn = await ws.connect_ws(t)
    conn.send(bytes([wire.PUBLISH << 4]) + wire.varint(1 << 22) + wire.text("a"))
    await conn.expect_end(0x95)


@row(v="4")
async def a_frame_that_promises_too_much(t):
    """A header that announces 2^62 bytes costs no memory: the connection ends, the broker lives."""
    conn = await ws.connect_ws(t)
    conn.writer.raw(bytes([0x82, 0xFF]) + (1 << 62).to_bytes(8, "big") + b"mask" + bytes(1000))
    packet = await conn.recv()
    check(packet is None, packet)
    await (await t.connect("other")).ping()


@row(v="4")
async def plain_http_on_the_websocket_port(t):
    """A request without an upgrade, and a handshake that is none, are answered by an HTTP error or a close."""
    for request in (b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                    b"GET / HTTP/1.0\r\n\r\n", b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0", b"\r\n\r\n\r\n", b"X" * 40 + b"\r\n\r\n"):
        reader, writer = await ws.stream(t, "ws")
        writer.write(request)
        status, _ = await ws.response(reader)
        check(status == 0 or 400 <= status < 500, f"{request[:20]}: HTTP {status}")


@row(v="4")
async def an_endless_request_head(t):
    """A request line and headers without end: closed or refused, and soon."""
    reader, writer = await ws.stream(t, "ws")
    writer.write(b"GET /mqtt HTTP/1.1\r\n")
    for i in range(64):
        writer.write(b"X-Header-%d: " % i + b"y" * 8192 + b"\r\n")
    status, _ = await ws.response(reader)
    check(status == 0 or 400 <= status < 500, status)


@row(v="4")
async def status_for_load_balancers(t):
    """`GET /status` answers 200 on the WebSocket port: the node's name and that it runs."""
    reader, writer = await ws.stream(t, "ws")
    writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers = await ws.response(reader)
    check(status == 200, f"HTTP {status}")
    body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 5)
    check(b"is started" in body and b"nightjar is running" in body, body)


@row(v="45", s4="3.1.4-2", s5="3.1.4-3")
async def takeover_between_transports(t):
    old = await ws.connect_ws(t)
    await t.connect()
    await old.expect_end(0x8E)


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def websocket_pings_do_not_replace_pingreq(t):
    """Keep alive counts MQTT packets; a client that only sends WebSocket pings is closed."""
    conn = await ws.open_ws(t)
    conn.send(wire.connect(t.cid(), t.v, keep_alive=1))
    await conn.connected()

    async def pings():
        for _ in range(12):
            conn.writer.raw(ws.frame(b"", ws.PING))
            await asyncio.sleep(0.25)

    task = asyncio.ensure_future(pings())
    await conn.expect_end(0x8D, timeout=4)
    task.cancel()
