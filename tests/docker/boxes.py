"""Containers of Nightjar's images, talked to through ports published on 127.0.0.1."""

import time

from blocking import Client, check, trusting, until
from broker import free_port

VARIANTS = ("slim", "from-scratch")
# Bytes above the base image.
LARGEST = 40_000_000
OPEN = ("-e", "NIGHTJAR_AUTH__ALLOW_ANONYMOUS=true")
TCP = (1883, 8883, 8083, 8084, 18083)


class Box:
    """A container with its ports published on free ports of 127.0.0.1."""

    def __init__(self, engine, image, word, *words, command=(), ports=TCP, wait=True):
        self.engine, self.name = engine, engine.name(word)
        self.ports = {port: free_port() for port in ports}
        publish = [part for port, host in self.ports.items() for part in ("-p", f"127.0.0.1:{host}:{port}")]
        begin = time.monotonic()
        engine.run("run", "-d", "--name", self.name, *publish, *words, image, *command)
        if wait:
            self.ready()
        self.started_in = time.monotonic() - begin

    def ready(self, count=1):
        """Waits for the ready line, the `count`th of this container."""
        def up():
            said = self.engine.logs(self.name)
            check(self.engine.state(self.name) == "running", f"it ended: {said[-1500:]}")
            return said.count("nightjar ready:") >= count

        until(up, "the ready line", 30)
        return self

    def client(self, cid="", port=1883, **options):
        return Client(self.ports[port], cid, websocket=port in (8083, 8084), **options)

    def ended(self, timeout=20):
        """(exit code, all that it said) of a container that should end by itself."""
        until(lambda: self.engine.state(self.name) == "exited", "the end of the container", timeout)
        return int(self.engine.state(self.name, "ExitCode")), self.engine.logs(self.name)

    def ca(self, folder):
        self.engine.run("cp", f"{self.name}:/var/lib/nightjar/data/certs/ca.crt", f"{folder}/ca.crt")
        return trusting(f"{folder}/ca.crt")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.remove(self.name)


def talk(box, tls, ports=(1883, 8883, 8083, 8084)):
    """A message from each port to each other one."""
    clients = {port: box.client(f"talk-{port}", port, tls=tls if port in (8883, 8084) else None) for port in ports}
    for port, client in clients.items():
        check(client.subscribe("talk/#") in (0, 1), f"{port}: subscribe")
    for port, client in clients.items():
        check(client.publish(f"talk/{port}", str(port).encode()) == 0, f"{port}: publish")
    for port, client in clients.items():
        got = sorted(client.message().payload.decode() for _ in ports)
        check(got == sorted(map(str, ports)), f"{port} got {got}")
        client.end()
