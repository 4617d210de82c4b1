"""aiomqtt: paho's protocol code under an asyncio face."""

import asyncio
import contextlib
import logging

from .base import WAIT, Client, Message, Unavailable
from .loop import Loop

try:
    import aiomqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    aiomqtt = None


class AiomqttClient(Client):
    name = "aiomqtt"
    versions = (4, 5)

    @classmethod
    def start(cls):
        if aiomqtt is None:
            raise Unavailable("Python package aiomqtt is not installed")
        # It tells of each connection that a test has cut.
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)
        cls.loop = Loop()

    @classmethod
    def stop(cls):
        cls.loop.stop()

    def connect(self, clean=True, expiry=0, will=None):
        return self.loop.run(self._connect(clean, expiry, will))

    async def _connect(self, clean, expiry, will):
        options = {"clean_session": clean}
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            options = {"clean_start": clean, "properties": properties}
        self.client = aiomqtt.Client(
            "localhost", self.broker.port(self.transport), identifier=self.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if self.version == 5 else aiomqtt.ProtocolVersion.V311,
            transport="websockets" if "ws" in self.transport else "tcp",
            websocket_path="/mqtt" if "ws" in self.transport else None,
            tls_params=aiomqtt.TLSParameters(ca_certs=str(self.broker.ca_file()))
            if self.transport in ("tls", "wss") else None,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None,
            timeout=WAIT, **options)
        await self.client.__aenter__()
        self.inbox = asyncio.Queue()
        self.reader = asyncio.ensure_future(self._read())
        return None

    async def _read(self):
        try:
            async for m in self.client.messages:
                self.inbox.put_nowait(m)
        except aiomqtt.MqttError:
            pass

    def subscribe(self, topic_filter, qos=0):
        self.loop.run(self.client.subscribe(topic_filter, qos))

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        given = None
        if properties:
            given = Properties(PacketTypes.PUBLISH)
            given.ContentType = properties["content_type"]
            given.UserProperty = properties["user_property"]
        self.loop.run(self.client.publish(topic, payload, qos, retain, given))

    def receive(self, timeout=WAIT):
        m = self.loop.run(self.inbox.get(), timeout)
        properties = {}
        if self.version == 5 and m.properties is not None:
            told = m.properties.json()
            properties = {"content_type": told.get("ContentType"),
                          "user_property": [tuple(pair) for pair in told.get("UserProperty", [])]}
        return Message(str(m.topic), bytes(m.payload).decode(), m.qos, m.retain, properties)

    def disconnect(self):
        async def go():
            self.reader.cancel()
            await self.client.__aexit__(None, None, None)

        self.loop.run(go())

    def kill(self):
        async def go():
            self.reader.cancel()
            self.client._client._sock_close()
            with contextlib.suppress(aiomqtt.MqttError):
                await self.client.__aexit__(None, None, None)

        self.loop.run(go())
