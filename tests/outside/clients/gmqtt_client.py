"""gmqtt: asyncio, 3.1.1 and 5.0, TCP and TLS."""

import asyncio
import contextlib
import logging
import ssl

from .base import WAIT, Client, Failed, Message, Unavailable
from .loop import Loop

try:
    import gmqtt
    from gmqtt.mqtt.constants import MQTTv50, MQTTv311
except ImportError:
    gmqtt = None


class GmqttClient(Client):
    name = "gmqtt"
    transports = ("tcp", "tls")
    versions = (4, 5)

    @classmethod
    def start(cls):
        if gmqtt is None:
            raise Unavailable("Python package gmqtt is not installed")
        # It tells of each connection that a test has cut.
        logging.getLogger("gmqtt").setLevel(logging.CRITICAL)
        cls.loop = Loop()

    @classmethod
    def stop(cls):
        cls.loop.stop()

    def connect(self, clean=True, expiry=0, will=None):
        return self.loop.run(self._connect(clean, expiry, will))

    async def _connect(self, clean, expiry, will):
        message = gmqtt.Message(will.topic, will.payload, qos=will.qos, retain=will.retain) if will else None
        options = {"session_expiry_interval": expiry} if self.version == 5 else {}
        self.client = gmqtt.Client(self.client_id, clean_session=clean, will_message=message, **options)
        self.client.set_config({"reconnect_retries": 0})
        self.inbox, self.subacks, self.present = asyncio.Queue(), asyncio.Queue(), None
        self.client.on_connect = lambda _c, flags, _rc, _p: setattr(self, "present", flags & 1)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda _c, mid, qos, _p: self.subacks.put_nowait((mid, qos))
        tls = ssl.create_default_context(cafile=str(self.broker.ca_file())) if self.transport == "tls" else False
        if tls:
            tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        await self.client.connect("localhost", self.broker.port(self.transport), ssl=tls, keepalive=60,
                                  version=MQTTv50 if self.version == 5 else MQTTv311)
        return self.present

    async def _on_message(self, _client, topic, payload, qos, properties):
        told = {"content_type": (properties.get("content_type") or [None])[0],
                "user_property": [tuple(pair) for pair in properties.get("user_property", [])]}
        self.inbox.put_nowait(Message(topic, payload.decode(), qos, bool(properties.get("retain")), told))
        return 0

    def subscribe(self, topic_filter, qos=0):
        async def go():
            self.client.subscribe(topic_filter, qos)
            return await self.subacks.get()

        _, codes = self.loop.run(go())
        if any(code >= 0x80 for code in codes):
            raise Failed(f"{topic_filter}: refused: {codes}")

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        async def go():
            given = dict(properties or {})
            self.client.publish(topic, payload, qos=qos, retain=retain, **given)
            # The library tells no end of an exchange; its store of unacknowledged messages does.
            for _ in range(int(WAIT / 0.02)):
                if self.client._persistent_storage.is_empty:
                    return True
                await asyncio.sleep(0.02)
            return False

        if not self.loop.run(go()):
            raise Failed(f"QoS {qos} was not acknowledged within {WAIT:g} s")

    def receive(self, timeout=WAIT):
        return self.loop.run(self.inbox.get(), timeout)

    def disconnect(self):
        # What the broker had sent before it read the goodbye may still arrive: Python's TLS calls that an error.
        with contextlib.suppress(ssl.SSLError):
            self.loop.run(self.client.disconnect())

    def kill(self):
        async def go():
            connection = self.client._connection
            self.client.stop_reconnect()
            if connection is not None:
                connection._transport.abort()
                await asyncio.sleep(0)

        self.loop.run(go())
