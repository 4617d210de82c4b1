"""Packets that break the format after a good CONNECT: the code of the DISCONNECT (5.0) or the close (3.x).

Where the standard leaves open whether a packet is malformed (0x81) or a protocol error (0x82), the table has what
Nightjar says: 0x81 for what cannot be read, 0x82 for what can and must not be there.
"""

import asyncio

import wire
from rows import row, table
from wire import (AUTH, CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
                  SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, ack, frame, prop, publish, subscribe, text, u16,
                  unsubscribe)

MALFORMED, PROTOCOL = 0x81, 0x82

SURROGATE = b"\xed\xa0\x80"
OVERLONG = b"\xc0\xaf"
CUT_SHORT = b"a\xe2\x82"
NUL = b"a\0b"


async def ends_with(t, packet, code):
    conn = await t.connect()
    conn.send(packet)
    await conn.expect_end(code)


def sub_with(properties):
    return subscribe(1, [("a", 0)], properties=properties)


def pub_with(properties, topic="a", qos=0):
    return publish(topic, b"x", qos, 1 if qos else None, properties=properties)


# ---- 5.0 ----

V5 = [
    # Fixed header.
    ("type_0", "4.13.1-1", frame(0, 0), MALFORMED),
    ("connack_from_a_client", "", frame(CONNACK, 0, b"\0\0\0"), PROTOCOL),
    ("suback_from_a_client", "", frame(SUBACK, 0, b"\0\1\0\0"), PROTOCOL),
    ("unsuback_from_a_client", "", frame(UNSUBACK, 0, b"\0\1\0\0"), PROTOCOL),
    ("pingresp_from_a_client", "", frame(PINGRESP, 0), PROTOCOL),
    ("subscribe_flags_0", "2.1.3-1 3.8.1-1", subscribe(1, [("a", 0)], flags=0), MALFORMED),
    ("subscribe_flags_3", "2.1.3-1 3.8.1-1", subscribe(1, [("a", 0)], flags=3), MALFORMED),
    ("unsubscribe_flags_0", "2.1.3-1 3.10.1-1", unsubscribe(1, ["a"], flags=0), MALFORMED),
    ("unsubscribe_flags_15", "2.1.3-1 3.10.1-1", unsubscribe(1, ["a"], flags=15), MALFORMED),
    ("pubrel_flags_0", "2.1.3-1 3.6.1-1", ack(PUBREL, 1, flags=0), MALFORMED),
    ("pubrel_flags_6", "2.1.3-1 3.6.1-1", ack(PUBREL, 1, flags=6), MALFORMED),
    ("puback_flags_2", "2.1.3-1", ack(PUBACK, 1, flags=2), MALFORMED),
    ("pubrec_flags_1", "2.1.3-1", ack(PUBREC, 1, flags=1), MALFORMED),
    ("pubcomp_flags_2", "2.1.3-1", ack(PUBCOMP, 1, flags=2), MALFORMED),
    ("pingreq_flags_1", "2.1.3-1", frame(PINGREQ, 1), MALFORMED),
    ("disconnect_flags_1", "2.1.3-1 3.14.1-1", frame(DISCONNECT, 1), MALFORMED),
    ("auth_flags_1", "2.1.3-1 3.15.1-1", frame(AUTH, 1, b"\x18\0"), MALFORMED),
    ("publish_qos_3", "3.3.1-4", frame(PUBLISH, 6, text("a") + u16(1) + b"\0"), MALFORMED),
    ("publish_qos_0_dup", "3.3.1-2", publish("a", b"x", dup=True), MALFORMED),
    ("remaining_length_of_5_bytes", "1.5.5-1", bytes([PUBLISH << 4]) + b"\xff\xff\xff\xff\x01", MALFORMED),
    ("pingreq_with_a_body", "", frame(PINGREQ, 0, b"x"), MALFORMED),
    ("remaining_length_not_shortest", "1.5.5-1", bytes([PINGREQ << 4]) + b"\x80\0", MALFORMED),
    # Packet identifiers.
    ("publish_qos_1_pid_0", "2.2.1-3", publish("a", b"x", 1, 0), PROTOCOL),
    ("publish_qos_2_pid_0", "2.2.1-3", publish("a", b"x", 2, 0), PROTOCOL),
    ("subscribe_pid_0", "2.2.1-3", subscribe(0, [("a", 0)]), PROTOCOL),
    ("unsubscribe_pid_0", "2.2.1-3", unsubscribe(0, ["a"]), PROTOCOL),
    ("puback_pid_0", "", ack(PUBACK, 0), PROTOCOL),
    ("pubrec_pid_0", "", ack(PUBREC, 0), PROTOCOL),
    ("pubrel_pid_0", "", ack(PUBREL, 0), PROTOCOL),
    ("pubcomp_pid_0", "", ack(PUBCOMP, 0), PROTOCOL),
    # Bodies that end too soon or too late.
    ("publish_empty", "", frame(PUBLISH, 0), MALFORMED),
    ("publish_topic_past_the_end", "", frame(PUBLISH, 0, u16(40) + b"abc"), MALFORMED),
    ("publish_without_pid", "", frame(PUBLISH, 2, text("a")), MALFORMED),
    ("publish_without_property_length", "2.2.2-1", frame(PUBLISH, 0, text("a")), MALFORMED),
    ("publish_properties_past_the_end", "", frame(PUBLISH, 0, text("a") + b"\x20\x01\x00"), MALFORMED),
    ("subscribe_filter_past_the_end", "", frame(SUBSCRIBE, 2, u16(1) + b"\0" + u16(9) + b"abc"), MALFORMED),
    ("subscribe_without_options", "", frame(SUBSCRIBE, 2, u16(1) + b"\0" + text("a")), MALFORMED),
    ("subscribe_of_one_byte", "", frame(SUBSCRIBE, 2, b"\0"), MALFORMED),
    ("unsubscribe_filter_past_the_end", "", frame(UNSUBSCRIBE, 2, u16(1) + b"\0" + u16(9) + b"abc"), MALFORMED),
    ("puback_of_one_byte", "", frame(PUBACK, 0, b"\0"), MALFORMED),
    ("puback_empty", "", frame(PUBACK, 0), MALFORMED),
    ("puback_with_a_tail", "", frame(PUBACK, 0, b"\0\1\0\0x"), MALFORMED),
    ("pubrel_property_length_past_the_end", "", frame(PUBREL, 2, b"\0\1\0\x05"), MALFORMED),
    ("disconnect_with_a_tail", "", frame(DISCONNECT, 0, b"\0\0x"), MALFORMED),
    # No filters, and bad options.
    ("subscribe_without_filters", "3.8.3-2", frame(SUBSCRIBE, 2, u16(1) + b"\0"), PROTOCOL),
    ("unsubscribe_without_filters", "3.10.3-2", frame(UNSUBSCRIBE, 2, u16(1) + b"\0"), PROTOCOL),
    ("subscribe_options_bit_6", "3.8.3-5", subscribe(1, [("a", 0x40)]), MALFORMED),
    ("subscribe_options_bit_7", "3.8.3-5", subscribe(1, [("a", 0x80)]), MALFORMED),
    ("subscribe_qos_3", "", subscribe(1, [("a", 3)]), PROTOCOL),
    ("subscribe_retain_handling_3", "", subscribe(1, [("a", 0x30)]), PROTOCOL),
    ("subscribe_no_local_shared", "3.8.3-4", subscribe(1, [("$share/g/a", 4)]), PROTOCOL),
    # Strings.
    ("topic_surrogate", "1.5.4-1 3.3.2-1", publish(SURROGATE), MALFORMED),
    ("topic_overlong", "1.5.4-1 3.3.2-1", publish(OVERLONG), MALFORMED),
    ("topic_cut_short", "1.5.4-1 3.3.2-1", publish(CUT_SHORT), MALFORMED),
    ("topic_nul", "1.5.4-2 4.7.3-2", publish(NUL), MALFORMED),
    ("filter_surrogate", "1.5.4-1 3.8.3-1", subscribe(1, [(SURROGATE, 0)]), MALFORMED),
    ("filter_nul", "1.5.4-2 4.7.3-2", subscribe(1, [(NUL, 0)]), MALFORMED),
    ("unsubscribe_filter_surrogate", "1.5.4-1 3.10.3-1", unsubscribe(1, [SURROGATE]), MALFORMED),
    ("user_property_name_not_utf8", "1.5.7-1", pub_with({"user_property": (SURROGATE, "v")}), MALFORMED),
    ("user_property_value_not_utf8", "1.5.7-1", pub_with({"user_property": ("k", OVERLONG)}), MALFORMED),
    ("user_property_nul", "1.5.7-1 1.5.4-2", pub_with({"user_property": ("k", NUL)}), MALFORMED),
    ("content_type_not_utf8", "3.3.2-19", pub_with({"content_type": SURROGATE}), MALFORMED),
    ("response_topic_not_utf8", "3.3.2-13", pub_with({"response_topic": SURROGATE}), MALFORMED),
    ("reason_string_of_puback_not_utf8", "1.5.4-1", ack(PUBACK, 1, 0, {"reason_string": SURROGATE}), MALFORMED),
    # Topic names.
    ("topic_with_hash", "3.3.2-2 4.7.0-1", publish("a/#", b"x"), 0x90),
    ("topic_with_plus", "3.3.2-2 4.7.0-1", publish("a/+/b", b"x"), 0x90),
    ("topic_with_hash_qos_1", "3.3.2-2 4.7.0-1", publish("#", b"x", 1, 1), 0x90),
    ("topic_empty_without_alias", "4.7.3-1", publish("", b"x"), PROTOCOL),
    ("response_topic_with_hash", "3.3.2-14", pub_with({"response_topic": "a/#"}), PROTOCOL),
    ("response_topic_with_plus", "3.3.2-14", pub_with({"response_topic": "+"}), PROTOCOL),
    # Properties.
    ("unknown_property", "", pub_with(b"\x7f\0"), MALFORMED),
    ("property_0", "", pub_with(b"\0\0"), MALFORMED),
    ("property_of_connect_in_publish", "", pub_with({"session_expiry": 1}), MALFORMED),
    ("property_of_publish_in_subscribe", "", sub_with({"topic_alias": 1}), MALFORMED),
    ("property_of_connect_in_puback", "", ack(PUBACK, 1, 0, {"receive_maximum": 1}), MALFORMED),
    ("property_of_publish_in_unsubscribe", "", unsubscribe(1, ["a"], properties={"subscription_id": 1}), MALFORMED),
    ("property_length_not_shortest", "1.5.5-1",
     frame(PUBLISH, 0, text("a") + b"\x85\x00" + prop("message_expiry", 1)), MALFORMED),
    ("property_length_5_bytes", "1.5.5-1", frame(PUBLISH, 0, text("a") + b"\x80\x80\x80\x80\x01"), MALFORMED),
    ("property_cut_short", "", pub_with(b"\x02\0\0"), MALFORMED),
    ("message_expiry_twice", "", pub_with({"message_expiry": [1, 1]}), PROTOCOL),
    ("content_type_twice", "", pub_with({"content_type": ["a", "a"]}), PROTOCOL),
    ("response_topic_twice", "", pub_with({"response_topic": ["a", "a"]}), PROTOCOL),
    ("correlation_data_twice", "", pub_with({"correlation_data": [b"a", b"a"]}), PROTOCOL),
    ("payload_format_twice", "", pub_with({"payload_format": [1, 1]}), PROTOCOL),
    ("payload_format_2", "", pub_with({"payload_format": 2}), PROTOCOL),
    ("topic_alias_twice", "", pub_with({"topic_alias": [1, 1]}), PROTOCOL),
    ("subscription_id_from_a_client", "3.3.4-6", pub_with({"subscription_id": 1}), PROTOCOL),
    ("subscription_id_0", "", sub_with({"subscription_id": 0}), PROTOCOL),
    ("subscription_id_twice", "", sub_with({"subscription_id": [1, 2]}), PROTOCOL),
    ("subscription_id_5_bytes", "", sub_with(b"\x0b\x80\x80\x80\x80\x01"), MALFORMED),
    ("reason_string_twice", "", ack(PUBACK, 1, 0, {"reason_string": ["a", "b"]}), PROTOCOL),
    ("unknown_property_in_pubrec", "", ack(PUBREC, 1, 0, b"\x55\0"), MALFORMED),
    ("unknown_property_in_pubcomp", "", ack(PUBCOMP, 1, 0, b"\x55\0"), MALFORMED),
    ("unknown_property_in_disconnect", "", wire.disconnect(0, b"\x55\0"), MALFORMED),
    # Reason codes and what only some packets may say.
    ("puback_undefined_code", "3.4.2-1", ack(PUBACK, 1, 0x42), PROTOCOL),
    ("pubrec_undefined_code", "3.5.2-1", ack(PUBREC, 1, 0x42), PROTOCOL),
    ("pubrel_undefined_code", "3.6.2-1", ack(PUBREL, 1, 0x10), PROTOCOL),
    ("pubcomp_undefined_code", "3.7.2-1", ack(PUBCOMP, 1, 0x80), PROTOCOL),
    ("disconnect_undefined_code", "3.14.2-1", wire.disconnect(0x42), PROTOCOL),
    ("disconnect_code_of_the_server", "3.14.2-1", wire.disconnect(0x8E), PROTOCOL),
    ("disconnect_expiry_twice", "", wire.disconnect(0, {"session_expiry": [1, 1]}), PROTOCOL),
    ("disconnect_expiry_after_zero", "", wire.disconnect(0, {"session_expiry": 9}), PROTOCOL),
    ("auth_undefined_code", "3.15.2-1", wire.auth(0x42, {"auth_method": "x"}), PROTOCOL),
    ("auth_without_method_in_connect", "4.12.0-7", wire.auth(0x18, {"auth_method": "x"}), PROTOCOL),
    ("auth_empty", "", frame(AUTH, 0), PROTOCOL),
]

table(__file__, "malformed", V5, ends_with)


# ---- 3.1 and 3.1.1: the connection is closed and nothing is sent ----

V4 = [
    ("type_0", "4.8.0-1", frame(0, 0)),
    ("type_15", "4.8.0-1", frame(15, 0)),
    ("connack_from_a_client", "4.8.0-1", frame(CONNACK, 0, b"\0\0")),
    ("suback_from_a_client", "4.8.0-1", frame(SUBACK, 0, b"\0\1\0")),
    ("unsuback_from_a_client", "4.8.0-1", frame(UNSUBACK, 0, b"\0\1")),
    ("pingresp_from_a_client", "4.8.0-1", frame(PINGRESP, 0)),
    ("disconnect_with_a_body", "4.8.0-1", frame(DISCONNECT, 0, b"\0")),
    ("publish_qos_3", "3.3.1-4", frame(PUBLISH, 6, text("a") + u16(1))),
    ("publish_qos_1_pid_0", "2.3.1-1", publish("a", b"x", 1, 0, v=4)),
    ("publish_qos_2_pid_0", "2.3.1-1", publish("a", b"x", 2, 0, v=4)),
    ("subscribe_pid_0", "2.3.1-1", subscribe(0, [("a", 0)], 4)),
    ("unsubscribe_pid_0", "2.3.1-1", unsubscribe(0, ["a"], 4)),
    ("publish_topic_past_the_end", "4.8.0-1", frame(PUBLISH, 0, u16(40) + b"abc")),
    ("publish_without_pid", "4.8.0-1", frame(PUBLISH, 2, text("a"))),
    ("puback_with_a_tail", "4.8.0-1", frame(PUBACK, 0, b"\0\1\0")),
    ("pingreq_with_a_body", "4.8.0-1", frame(PINGREQ, 0, b"x")),
    ("subscribe_without_filters", "3.8.3-3", frame(SUBSCRIBE, 2, u16(1))),
    ("unsubscribe_without_filters", "3.10.3-2", frame(UNSUBSCRIBE, 2, u16(1))),
    ("subscribe_qos_3", "3.8.3-4", subscribe(1, [("a", 3)], 4)),
    ("topic_surrogate", "1.5.3-1 3.3.2-1", publish(SURROGATE, v=4)),
    ("topic_overlong", "1.5.3-1 3.3.2-1", publish(OVERLONG, v=4)),
    ("topic_nul", "1.5.3-2 4.7.3-2", publish(NUL, v=4)),
    ("filter_surrogate", "1.5.3-1 3.8.3-1", subscribe(1, [(SURROGATE, 0)], 4)),
    ("filter_nul", "1.5.3-2 4.7.3-2", subscribe(1, [(NUL, 0)], 4)),
    ("unsubscribe_filter_surrogate", "1.5.3-1 3.10.3-1", unsubscribe(1, [SURROGATE], 4)),
    ("topic_with_hash", "3.3.2-2 4.7.1-1", publish("a/#", v=4)),
    ("topic_with_plus", "3.3.2-2 4.7.1-1", publish("+", v=4)),
    ("topic_empty", "4.7.3-1", publish("", v=4)),
    ("remaining_length_of_5_bytes", "4.8.0-1", bytes([PUBLISH << 4]) + b"\xff\xff\xff\xff\x01"),
]


async def closes(t, packet):
    conn = await t.connect()
    conn.send(packet)
    await conn.expect_close()


table(__file__, "malformed_3x", V4, closes, v="34")

# Bits that 3.1 leaves open (it knows DUP on SUBSCRIBE, UNSUBSCRIBE and PUBREL) and 3.1.1 does not.
V4_ONLY = [
    ("subscribe_flags_0", "2.2.2-1 2.2.2-2 3.8.1-1", subscribe(1, [("a", 0)], 4, flags=0)),
    ("unsubscribe_flags_0", "2.2.2-1 2.2.2-2 3.10.1-1", unsubscribe(1, ["a"], 4, flags=0)),
    ("pubrel_flags_0", "2.2.2-1 2.2.2-2 3.6.1-1", ack(PUBREL, 1, flags=0)),
    ("puback_flags_2", "2.2.2-1 2.2.2-2", ack(PUBACK, 1, flags=2)),
    ("pubrec_flags_8", "2.2.2-1 2.2.2-2", ack(PUBREC, 1, flags=8)),
    ("pubcomp_flags_2", "2.2.2-1 2.2.2-2", ack(PUBCOMP, 1, flags=2)),
    ("pingreq_flags_1", "2.2.2-1 2.2.2-2", frame(PINGREQ, 1)),
    ("disconnect_flags_1", "2.2.2-1 2.2.2-2 3.14.1-1", frame(DISCONNECT, 1)),
    ("subscribe_options_of_5", "3.8.3-4", subscribe(1, [("a", 4)], 4)),
    ("subscribe_options_bit_7", "3.8.3-4", subscribe(1, [("a", 0x80)], 4)),
]

table(__file__, "malformed_311", V4_ONLY, closes, v="4")


@row(v="3")
async def dup_on_subscribe_of_31(t):
    """MQTT 3.1 lets a client repeat SUBSCRIBE, UNSUBSCRIBE and PUBREL with DUP set."""
    conn = await t.connect()
    conn.send(subscribe(1, [(t.topic(), 1)], 3, flags=0x0A))
    await conn.expect(SUBACK, pid=1)
    conn.send(publish(t.topic(), b"x", 2, 7, 3))
    await conn.expect(PUBREC, pid=7)
    conn.send(ack(PUBREL, 7, flags=0x0A))
    seen = {(await conn.recv()).kind, (await conn.recv()).kind}
    assert seen == {PUBCOMP, PUBLISH}, seen
    conn.send(unsubscribe(2, [t.topic()], 3, flags=0x0A))
    await conn.expect(UNSUBACK, pid=2)


@row(v="345", s4="4.8.0-1 3.1.0-2", s5="4.13.1-1 3.1.0-2 4.13.2-1")
async def second_connect(t):
    conn = await t.connect()
    conn.send(wire.connect(t.cid(), t.v))
    await conn.expect_end(PROTOCOL)


@row(v="345", s4="4.8.0-1", s5="4.13.1-1 4.13.2-1")
async def nothing_is_served_after_an_error(t):
    """What follows a malformed packet in the same segment has no effect."""
    reader = await t.connect("reader")
    await reader.subscribe(t.topic())
    conn = await t.connect("bad")
    conn.send(frame(0, 0) + publish(t.topic(), b"late", v=t.v))
    await conn.expect_end({MALFORMED, PROTOCOL})
    await reader.quiet()


@row(v="345", s4="4.8.0-1", s5="4.13.1-1")
async def other_clients_live_on(t):
    """Malformed input ends that connection only."""
    bystander = await t.connect("bystander")
    await bystander.subscribe(t.topic())
    for junk in (b"\0" * 64, b"\xff" * 64, bytes(range(256))):
        conn = await t.connect("junk")
        conn.send(junk)
        while await conn.recv() is not None:
            pass
    await bystander.publish(t.topic(), b"still here", 1)
    await bystander.message(t.topic(), b"still here", 0)


@row(v="45", s4="4.8.0-1", s5="4.13.1-1")
async def packets_in_pieces(t):
    """Bytes may come one at a time: framing does not depend on segments."""
    conn = await t.open()
    stream = wire.connect(t.cid(), t.v) + subscribe(1, [(t.topic(), 0)], t.v)
    stream += publish(t.topic(), b"in pieces", v=t.v) + wire.pingreq()
    for byte in stream:
        conn.send(bytes([byte]))
        await asyncio.sleep(0)
    await conn.connected()
    got = {(await conn.recv()).kind for _ in range(3)}
    assert got == {SUBACK, PUBLISH, PINGRESP}, got
