"""CONNECT and CONNACK: what is refused and how, what is accepted, client identifiers, the first packet."""

import string

import wire
from rows import check, read_or_closed, row, table
from wire import connect, frame, prop, text, u16

MALFORMED, PROTOCOL = 0x81, 0x82
SURROGATE = b"\xed\xa0\x80"


async def refused(t, packet, code):
    """5.0: CONNACK with this code and session present 0, then the close."""
    conn = await t.open()
    conn.send(packet)
    await conn.connected(code)
    await conn.expect_close()


async def refused_silently(t, packet):
    """3.x: the connection is closed without CONNACK."""
    conn = await t.open()
    conn.send(packet)
    await conn.expect_close()


def head(flags, name="MQTT", level=5, properties=b"\0"):
    return text(name) + bytes([level, flags]) + u16(0) + properties


def with_properties(properties, **more):
    return connect("c", properties=properties, **more)


def with_will(properties=None, topic="w", qos=0):
    return connect("c", will=(topic, b"x", qos, False, properties))


V5 = [
    ("reserved_flag", "3.1.2-3 3.1.4-1", frame(1, 0, head(0x03) + text("c")), MALFORMED),
    ("will_qos_3", "3.1.2-12", frame(1, 0, head(0x1E) + text("c") + b"\0" + text("w") + text("")), MALFORMED),
    ("will_qos_without_will", "3.1.2-11", frame(1, 0, head(0x0A) + text("c")), MALFORMED),
    ("will_retain_without_will", "3.1.2-13", frame(1, 0, head(0x22) + text("c")), MALFORMED),
    ("will_flag_without_will", "3.1.2-9", frame(1, 0, head(0x06) + text("c")), MALFORMED),
    ("will_without_flag", "3.1.4-1", connect("c", tail=b"\0" + text("w") + text("m")), MALFORMED),
    ("user_name_without_flag", "3.1.2-16", connect("c", tail=text("user")), MALFORMED),
    ("user_flag_without_name", "3.1.2-17", frame(1, 0, head(0x82) + text("c")), MALFORMED),
    ("password_without_flag", "3.1.2-18", connect("c", user="u", tail=text("pass")), MALFORMED),
    ("password_flag_without_password", "3.1.2-19", frame(1, 0, head(0x42) + text("c")), MALFORMED),
    ("no_client_id", "3.1.3-3", frame(1, 0, head(0x02)), MALFORMED),
    ("client_id_past_the_end", "3.1.3-3", frame(1, 0, head(0x02) + u16(9) + b"abc"), MALFORMED),
    ("client_id_not_utf8", "1.5.4-1 3.1.3-4", connect(SURROGATE), MALFORMED),
    ("client_id_nul", "1.5.4-2 3.1.3-4", connect("a\0b"), MALFORMED),
    ("user_name_not_utf8", "1.5.4-1 3.1.3-12", connect("c", user=SURROGATE), MALFORMED),
    ("will_topic_not_utf8", "1.5.4-1 3.1.3-11", with_will(topic=SURROGATE), MALFORMED),
    ("will_topic_with_wildcard", "4.7.0-1", with_will(topic="a/#"), 0x90),
    ("will_topic_empty", "4.7.3-1", with_will(topic=""), 0x90),
    ("no_property_length", "3.1.4-1 2.2.2-1", frame(1, 0, text("MQTT") + b"\x05\x02\0\0"), MALFORMED),
    ("properties_past_the_end", "3.1.4-1", frame(1, 0, head(2, properties=b"\x7f") + text("c")), MALFORMED),
    ("unknown_property", "3.1.4-1", with_properties(b"\x7f\0"), MALFORMED),
    ("property_of_publish", "3.1.4-1", with_properties({"topic_alias": 1}), MALFORMED),
    ("will_delay_outside_the_will", "3.1.4-1", with_properties({"will_delay": 1}), MALFORMED),
    ("topic_alias_in_the_will", "3.1.4-1", with_will({"topic_alias": 1}), MALFORMED),
    ("property_length_not_shortest", "1.5.5-1", frame(1, 0, head(2, properties=b"\x80\0") + text("c")), MALFORMED),
    ("session_expiry_twice", "3.1.4-1", with_properties({"session_expiry": [1, 1]}), PROTOCOL),
    ("receive_maximum_0", "3.1.4-1", with_properties({"receive_maximum": 0}), PROTOCOL),
    ("receive_maximum_twice", "3.1.4-1", with_properties({"receive_maximum": [1, 1]}), PROTOCOL),
    ("maximum_packet_size_0", "3.1.4-1", with_properties({"maximum_packet_size": 0}), PROTOCOL),
    ("maximum_packet_size_twice", "3.1.4-1", with_properties({"maximum_packet_size": [100, 100]}), PROTOCOL),
    ("topic_alias_maximum_twice", "3.1.4-1", with_properties({"topic_alias_maximum": [1, 1]}), PROTOCOL),
    ("request_response_info_2", "3.1.4-1", with_properties({"request_response_info": 2}), PROTOCOL),
    ("request_response_info_twice", "3.1.4-1", with_properties({"request_response_info": [1, 1]}), PROTOCOL),
    ("request_problem_info_2", "3.1.4-1", with_properties({"request_problem_info": 2}), PROTOCOL),
    ("request_problem_info_twice", "3.1.4-1", with_properties({"request_problem_info": [1, 1]}), PROTOCOL),
    ("auth_data_without_method", "3.1.4-1", with_properties({"auth_data": b"x"}), PROTOCOL),
    ("auth_method_twice", "3.1.4-1", with_properties({"auth_method": ["a", "a"]}), PROTOCOL),
    ("will_delay_twice", "3.1.4-1", with_will({"will_delay": [1, 1]}), PROTOCOL),
    ("will_payload_format_2", "3.1.4-1", with_will({"payload_format": 2}), PROTOCOL),
    ("will_message_expiry_twice", "3.1.4-1", with_will({"message_expiry": [1, 1]}), PROTOCOL),
    ("will_response_topic_with_wildcard", "3.1.4-1", with_will({"response_topic": "a/#"}), PROTOCOL),
    ("user_property_not_utf8", "1.5.7-1", with_properties({"user_property": (SURROGATE, "x")}), MALFORMED),
    ("will_user_property_not_utf8", "1.5.7-1", with_will({"user_property": ("x", SURROGATE)}), MALFORMED),
    ("property_cut_short", "3.1.4-1", with_properties(prop("session_expiry", 1)[:-1]), MALFORMED),
    ("a_byte_too_many", "3.1.4-1", connect("c", tail=b"x"), MALFORMED),
]

table(__file__, "refused", V5, refused, s5="3.2.2-6 3.2.2-7 3.1.4-2 4.13.1-1")


def old(flags, level=4, name="MQTT"):
    return text(name) + bytes([level, flags]) + u16(0)


V4 = [
    ("reserved_flag", "3.1.2-3 3.1.4-1", frame(1, 0, old(0x03) + text("c"))),
    ("will_qos_3", "3.1.2-14", frame(1, 0, old(0x1E) + text("c") + text("w") + text(""))),
    ("will_qos_without_will", "3.1.2-11 3.1.2-13", frame(1, 0, old(0x0A) + text("c"))),
    ("will_retain_without_will", "3.1.2-11 3.1.2-15", frame(1, 0, old(0x22) + text("c"))),
    ("will_flag_without_will", "3.1.2-9", frame(1, 0, old(0x06) + text("c"))),
    ("will_without_flag", "3.1.2-11", connect("c", 4, tail=text("w") + text("m"))),
    ("user_name_without_flag", "3.1.2-18", connect("c", 4, tail=text("user"))),
    ("user_flag_without_name", "3.1.2-19", frame(1, 0, old(0x82) + text("c"))),
    ("password_without_flag", "3.1.2-20", connect("c", 4, user="u", tail=text("pass"))),
    ("password_flag_without_password", "3.1.2-21", frame(1, 0, old(0xC2) + text("c") + text("u"))),
    ("password_without_user_name", "3.1.2-22", connect("c", 4, password="p")),
    ("no_client_id", "3.1.3-3", frame(1, 0, old(0x02))),
    ("client_id_not_utf8", "1.5.3-1 3.1.3-4", connect(SURROGATE, 4)),
    ("client_id_nul", "1.5.3-2", connect("a\0b", 4)),
    ("user_name_not_utf8", "1.5.3-1 3.1.3-11", connect("c", 4, user=SURROGATE)),
    ("will_topic_not_utf8", "1.5.3-1 3.1.3-10", connect("c", 4, will=(SURROGATE, b"", 0, False))),
    ("a_byte_too_many", "3.1.4-1", connect("c", 4, tail=b"x")),
    ("header_flags", "2.2.2-1 2.2.2-2", connect("c", 4, header_flags=2)),
]

table(__file__, "refused_311", V4, refused_silently, v="4", s4="3.1.4-1")

V3 = [
    ("will_qos_3", "", frame(1, 0, old(0x1E, 3, "MQIsdp") + text("c") + text("w") + text(""))),
    ("will_flag_without_will", "", frame(1, 0, old(0x06, 3, "MQIsdp") + text("c"))),
    ("no_client_id", "", frame(1, 0, old(0x02, 3, "MQIsdp"))),
    ("client_id_not_utf8", "", connect(SURROGATE, 3)),
]

table(__file__, "refused_31", V3, refused_silently, v="3")


@row(v="3")
async def user_flag_of_31_without_a_name(t):
    """MQTT 3.1: the remaining length goes before the flags; a missing user name or password is valid."""
    for flags in (0x82, 0xC2):
        conn = await t.open()
        conn.send(frame(1, 0, old(flags, 3, "MQIsdp") + text(t.cid())))
        await conn.connected()
        await conn.ping()


@row(v="34", s4="4.7.1-1")
async def will_topic_with_a_wildcard(t):
    """Refused, by a return code or by the close alone."""
    conn = await t.open()
    conn.send(connect(t.cid(), t.v, will=("a/#", b"", 0, False)))
    packet = await conn.recv()
    if packet is not None:
        check(packet.rc != 0, packet)
        await conn.expect_close()


# ---- the protocol name and level ----


async def level_refused(t, v, level):
    """CONNACK 0x01 in the form of 3.x, or 0x84 in the form of 5.0, then the close."""
    conn = await t.open()
    conn.send(connect("c", v, level=level))
    answer = b""
    while piece := await read_or_closed(conn.reader):
        answer += piece
    good = answer == b"\x20\x02\0\x01"
    if not good and answer[:1] == b"\x20":
        packet = wire.parse(wire.CONNACK, 0, answer[2:], 5)
        good = packet.size == len(answer) and packet.rc == 0x84
    check(good, f"level {level}: {answer.hex()}")


@row(v="4", s4="3.1.2-2 3.2.2-5")
async def level_unknown(t):
    for level in (0, 1, 2, 6, 7, 99):
        await level_refused(t, 4, level)


@row(v="5", s5="3.1.2-2 3.2.2-7")
async def level_unknown_to_50(t):
    for level in (6, 7, 0x85):
        await level_refused(t, 5, level)


@row(v="345", s4="3.1.2-1", s5="3.1.2-1")
async def name_unknown(t):
    """A name that is not MQTT's: closed, in 5.0 with or without CONNACK 0x84."""
    for name in ("MQT", "mqtt", "MQTTX", "HTTP", ""):
        conn = await t.open()
        conn.send(connect("c", t.v, name=name))
        answer = await read_or_closed(conn.reader)
        check(answer == b"" or (t.v == 5 and answer[0] == 0x20 and answer[3] == 0x84)
              or answer == b"\x20\x02\0\x01", f"{name}: {answer.hex()}")
        check(answer == b"" or await read_or_closed(conn.reader) == b"", f"{name}: not closed")


@row(v="34", s4="3.1.2-1")
async def name_of_the_other_version(t):
    """MQTT with level 3 and MQIsdp with level 4 are not versions of the protocol."""
    conn = await t.open()
    conn.send(connect("c", t.v, name="MQTT" if t.v == 3 else "MQIsdp"))
    answer = await read_or_closed(conn.reader)
    check(answer in (b"", b"\x20\x02\0\x01"), answer.hex())


@row(v="34")
async def bridge_bit(t):
    """Bridges of 3.1 and 3.1.1 set bit 0x80 of the level byte; the rest of the byte counts."""
    conn = await t.open()
    conn.send(connect(t.cid(), t.v, level=0x80 | t.v))
    await conn.connected()
    await conn.ping()


# ---- the first packet ----

FIRST = [
    ("publish", "", wire.publish("a", b"x")),
    ("subscribe", "", wire.subscribe(1, [("a", 0)])),
    ("unsubscribe", "", wire.unsubscribe(1, ["a"])),
    ("pingreq", "", wire.pingreq()),
    ("disconnect", "", wire.disconnect()),
    ("auth", "", wire.auth(0x18, {"auth_method": "x"})),
    ("puback", "", wire.ack(wire.PUBACK, 1)),
    ("pubrel", "", wire.ack(wire.PUBREL, 1)),
    ("connack", "", frame(wire.CONNACK, 0, b"\0\0\0")),
    ("reserved", "", frame(0, 0)),
    ("zeros", "", b"\0" * 32),
    ("http", "", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("tls_hello", "", bytes.fromhex("16030100c8010000c40303") + bytes(200)),
]


async def first_packet(t, packet):
    """Not CONNECT: closed at once, nothing sent."""
    conn = await t.open()
    conn.send(packet)
    await conn.expect_close(3)


table(__file__, "first_packet", FIRST, first_packet, s4="3.1.0-1", s5="3.1.0-1 3.14.0-1")


@row(v="345", s4="3.1.0-1", s5="3.1.0-1")
async def nothing_sent_and_closed(t):
    """A client that connects and goes leaves nothing behind."""
    for _ in range(20):
        conn = await t.open()
        await conn.close()
    (await t.connect()).send(wire.pingreq())


@row(v="345", profile="times", s4="3.1.0-1", s5="3.1.0-1", phase="timed")
async def connect_timeout(t):
    """A client that never sends its CONNECT, or only half of it, is closed after connect_timeout (2 s here)."""
    for begin in (b"", connect(t.cid(), t.v)[:9]):
        conn = await t.open()
        conn.send(begin)
        await conn.expect_close(4)


# ---- acceptance ----


@row(v="345", s4="3.1.4-4 3.2.0-1 3.2.2-3 7.1.1-1 7.0.0-2", s5="3.1.4-5 3.2.0-1 3.2.0-2 3.2.2-1 3.2.2-8 4.2.0-1")
async def accepted(t):
    conn = await t.connect(present=False)
    check(conn.connack.rc == 0, conn.connack)
    await conn.quiet()


@row(v="345", s4="3.2.0-1 3.1.4-4", s5="3.2.0-1")
async def packets_behind_connect(t):
    """A client need not wait for CONNACK: what follows CONNECT in the same segment is served after it."""
    conn = await t.open()
    conn.send(connect(t.cid(), t.v) + wire.subscribe(1, [(t.topic(), 0)], t.v) + wire.pingreq())
    await conn.connected()
    kinds = {(await conn.recv()).kind, (await conn.recv()).kind}
    check(kinds == {wire.SUBACK, wire.PINGRESP}, kinds)


@row(v="45", s4="3.1.4-5", s5="3.1.4-6 3.1.4-2")
async def nothing_is_served_after_a_refusal(t):
    """What a refused client sent behind its CONNECT has no effect."""
    reader = await t.connect("reader", v=5)
    await reader.subscribe(t.topic())
    conn = await t.open()
    bad = connect("", 4, clean=False) if t.v == 4 else connect("c", properties={"receive_maximum": 0})
    conn.send(bad + wire.publish(t.topic(), b"from a refused client", v=t.v))
    await conn.expect(wire.CONNACK, rc=2 if t.v == 4 else 0x82)
    await conn.expect_close()
    await reader.quiet()


@row(v="345", s4="3.1.2-19 3.1.2-21 3.1.3-1", s5="3.1.2-17 3.1.2-19 3.1.3-1")
async def all_fields_together(t):
    """Client identifier, will, user name and password in their order."""
    conn = await t.connect(will=(t.topic("will"), b"gone", 1, False), user="someone", password="secret")
    await conn.ping()


@row(v="5", s5="3.1.2-19")
async def password_without_user_name(t):
    """5.0 allows it; 3.1.1 did not."""
    conn = await t.connect(password=b"token \xff")
    await conn.ping()


@row(v="5", s4="3.1.3-2 3.1.3-5", s5="3.1.3-2 3.1.3-5")
async def client_ids_of_the_standard(t):
    """1 to 23 characters of digits and letters must be allowed. One version after the other: there are few of them."""
    alphabet = string.digits + string.ascii_letters
    for v in (3, 4, 5):
        for cid in ("7", "Z", *(alphabet[i:i + 23] for i in (0, 20, 39))):
            conn = await t.connect(v=v, cid=cid)
            await conn.disconnect()


@row(v="345")
async def client_ids_that_people_use(t):
    """Longer than 23 bytes (3.1 too), slashes, colons, spaces, UTF-8 and one that looks like a topic filter."""
    for cid in ("x" * 24, "x" * 256, "floor/3/lamp:7", "with a space", "gr\u00fc\u00dfe-\u6e29\u5ea6-\U0001F321",
                "a#b+", "$share"):
        conn = await t.connect(cid=f"{cid}-{t.key}")
        await conn.ping()


@row(v="5", s5="3.1.3-6 3.1.3-7 3.2.2-16")
async def empty_client_id_of_50(t):
    """Assigned whatever Clean Start says, told in CONNACK, unique, and a real session."""
    seen = set()
    for clean in (True, False):
        conn = await t.connect(cid="", clean=clean, expiry=60, present=False)
        cid = conn.connack.properties.get("assigned_client_id")
        check(cid and cid not in seen, f"assigned client identifier {cid!r}")
        seen.add(cid)
        await conn.subscribe(t.topic(), qos=1)
        await conn.disconnect()
        again = await t.connect(cid=cid, clean=False, present=True)
        check("assigned_client_id" not in again.connack.properties, "a given client identifier was assigned again")


@row(v="4", s4="3.1.3-6 3.1.3-7")
async def empty_client_id_of_311(t):
    """Allowed with clean session 1; two such clients do not disturb each other."""
    one = await t.connect(cid="")
    two = await t.connect(cid="")
    await one.ping()
    await two.ping()


@row(v="34", s4="3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5 3.2.2-6")
async def empty_client_id_refused(t):
    """3.1.1 with clean session 0, and 3.1 always: 0x02, then the close."""
    for clean in ((False,) if t.v == 4 else (True, False)):
        conn = await t.connect(cid="", clean=clean, rc=2)
        await conn.expect_close()


@row(v="345", profile="small", s4="3.1.3-9", s5="3.1.3-8")
async def client_id_too_long(t):
    """max_client_id_len is 30 here: 0x85 in 5.0, 0x02 in 3.x."""
    conn = await t.connect(cid="x" * 31, rc=0x85 if t.v == 5 else 2)
    await conn.expect_close()
    await t.connect(cid="y" * 30)


@row(v="5", s5="3.2.2-22")
async def server_says_its_limits(t):
    """CONNACK tells what differs from the standard's defaults: the documented ones of a fresh installation."""
    told = (await t.connect()).connack.properties
    check(told.get("receive_maximum") == 100, told)
    check(told.get("topic_alias_maximum") == 32, told)
    check(told.get("maximum_packet_size") == 1 << 20, told)
    check("maximum_qos" not in told, "Maximum QoS is told although QoS 2 is served")
    for name in ("retain_available", "wildcard_available", "subscription_ids_available", "shared_available"):
        check(told.get(name, 1) == 1, f"{name} is {told.get(name)}")
    check("server_keep_alive" not in told and "assigned_client_id" not in told, told)


@row(v="5", s5="3.1.2-28")
async def response_information(t):
    """Only on request, then a topic prefix that no other client gets."""
    without = await t.connect("without")
    check("response_info" not in without.connack.properties, "Response Information without a request")
    zero = await t.connect("zero", properties={"request_response_info": 0})
    check("response_info" not in zero.connack.properties, "Response Information although it was declined")
    asked = await t.connect("asked", properties={"request_response_info": 1})
    other = await t.connect("other", properties={"request_response_info": 1})
    a, b = (c.connack.properties.get("response_info") for c in (asked, other))
    check(a and b and a != b, f"Response Information {a!r} and {b!r}")


@row(v="345")
async def keep_alive_0_and_65535(t):
    for seconds in (0, 65535):
        conn = await t.connect(keep_alive=seconds)
        await conn.ping()


@row(v="345", s4="1.5.3-3", s5="1.5.4-3")
async def byte_order_mark_is_kept(t):
    """U+FEFF in a topic is a character like others: neither skipped nor stripped."""
    conn = await t.connect()
    bom = "\ufeff" + t.topic()
    await conn.subscribe(bom)
    await conn.publish(t.topic(), b"without")
    await conn.publish(bom, b"with")
    await conn.message(bom, b"with")
    await conn.quiet()
