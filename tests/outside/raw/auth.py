"""Enhanced authentication of 5.0 as far as a server without a mechanism shows it."""

import wire
from rows import check, row


@row(v="5", s5="4.12.0-1 3.2.2-7")
async def unknown_method(t):
    """CONNACK 0x8C, then the close."""
    conn = await t.connect(rc=0x8C, properties={"auth_method": "NO-SUCH-METHOD", "auth_data": b"x"})
    await conn.expect_close()


@row(v="5", s5="4.12.0-1")
async def unknown_method_without_data(t):
    conn = await t.connect(rc=0x8C, properties={"auth_method": ""})
    await conn.expect_close()


@row(v="5", s5="4.12.0-6")
async def no_method_no_auth(t):
    """Without a method in CONNECT, CONNACK names none and no AUTH comes (before CONNACK it would fail the row)."""
    conn = await t.connect(user="u", password="p")
    check("auth_method" not in conn.connack.properties, conn.connack)
    await conn.quiet()


@row(v="5", s5="4.12.0-7")
async def auth_before_connack_of_a_plain_client(t):
    """AUTH behind a CONNECT without a method: an error after CONNACK."""
    conn = await t.open()
    conn.send(wire.connect(t.cid()) + wire.auth(0x18, {"auth_method": "x"}))
    await conn.connected()
    await conn.expect_end({0x81, 0x82})


@row(v="5", s5="4.12.1-1")
async def re_authentication_of_a_plain_client(t):
    conn = await t.connect()
    conn.send(wire.auth(0x19, {"auth_method": "x"}))
    await conn.expect_end({0x82, 0x8C})
