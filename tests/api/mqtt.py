"""The blocking client of the outside tests as these cases want it: MQTT 3.1.1, QoS 0, and gone without DISCONNECT."""

import blocking
from blocking import Failed

__all__ = ["Client", "Failed"]


class Client(blocking.Client):
    def __init__(self, port, client_id, username=None, clean=True, keep_alive=60):
        super().__init__(port, client_id, v=4, user=username, clean=clean, keep_alive=keep_alive)

    def __exit__(self, *_):
        self.drop()

    def subscribe(self, topic, qos=0):
        return super().subscribe(topic, qos)

    def publish(self, topic, payload):
        super().publish(topic, payload, 0)

    def message(self):
        """Topic and payload of the next message."""
        packet = super().message()
        return packet.topic, packet.payload

    def closed(self):
        """Does the broker end the connection? What it sends before that is read."""
        try:
            while self.packet(5) is not None:
                pass
        except TimeoutError:
            return False
        return True
