#!/usr/bin/env python3
"""The images of docker/, run as the documentation says, talked to through ports published on 127.0.0.1.

    python3 tests/docker/run.py --bin target/release/nightjar --target target [--only WORD] [--debug]
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))
sys.path.insert(0, str(HERE))

from blocking import Client, Failed, check, until, wire  # noqa: E402
from boxes import LARGEST, OPEN, TCP, VARIANTS, Box, talk  # noqa: E402
from broker import free_port  # noqa: E402
from engine import BASE, DockerError, Engine, Missing, binary_context  # noqa: E402
from results import Results  # noqa: E402
import sn_client  # noqa: E402

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

CASES = []


def case(fn):
    CASES.append((f"docker/{fn.__name__}", fn))
    return fn


class Stage:
    def __init__(self, engine, binary, target, debug):
        self.engine, self.debug = engine, debug
        self.base = engine.base(target)
        self.images, self.sizes = {}, {}
        base_size = int(engine.out("image", "inspect", "-f", "{{.Size}}", BASE))
        with binary_context(binary) as context:
            for variant in VARIANTS:
                tag = f"nightjar-test/{variant}:{os.getpid()}"
                size = engine.build(context, tag, "-f", context / "docker" / "Dockerfile.binary", "--target", variant,
                                    "--build-arg", f"BASE_IMAGE={self.base}")
                self.images[variant] = tag
                self.sizes[variant] = size - (base_size if variant == "slim" else 0)

    def box(self, word, *words, variant="slim", **options):
        return Box(self.engine, self.images[variant], word, *words, **options)


def each_variant(fn):
    """One case for each image."""
    for variant in VARIANTS:
        CASES.append((f"docker/{variant}/{fn.__name__}", lambda stage, variant=variant: fn(stage, variant)))
    return fn


@case
def images_are_small(stage):
    """At most 40 MB above the slim base, and in all from scratch."""
    told = ", ".join(f"{variant} {size / 1e6:.1f} MB" for variant, size in stage.sizes.items())
    print(f"      sizes without the base: {told}", flush=True)
    if not stage.debug:
        check(all(size <= LARGEST for size in stage.sizes.values()), told)


@each_variant
def the_documented_line_is_all_it_takes(stage, variant):
    """`docker run` of README, on other host ports: all four transports, and the node is well."""
    line = next(words for words in readme_lines() if words[:3] == ["docker", "run", "-d"])
    words, ports = [], {}
    for word in line[3:-1]:
        published = re.fullmatch(r"(\d+):(\d+)(/udp)?", word)
        if published:
            ports[int(published[2])] = free_port()
            word = f"127.0.0.1:{ports[int(published[2])]}:{published[2]}{published[3] or ''}"
        words.append(word)
    check(set(ports) == {*TCP, 1884}, f"README publishes {sorted(ports)}")
    at = words.index("--name")
    del words[at:at + 2]
    box = stage.box(f"line-{variant}", *words, variant=variant, ports=())
    box.ports = ports
    with box, tempfile.TemporaryDirectory() as folder:
        talk(box, box.ca(folder))
        sensor = sn_client.Client("127.0.0.1", ports[1884], "sensor")
        with box.client("beside-the-sensor") as client:
            client.subscribe("from/#")
            sensor.connect()
            sensor.publish("from/sensor", b"21 degrees", qos=1)
            check(client.message().payload == b"21 degrees", "another message than the sensor's")
            sensor.subscribe("to/sensor", qos=1)
            client.publish("to/sensor", b"blink")
            got = sensor.receive()
            check(got and got.data == b"blink", f"the sensor got {got}")
        sensor.close()
        print(f"      {variant}: docker run to ready line {box.started_in:.2f} s", flush=True)


@each_variant
def runs_hardened(stage, variant):
    """Read-only root, no capabilities, user 10001 and nothing else; data in a volume."""
    volume = stage.engine.volume(f"hardened-{variant}")
    with stage.box(f"hard-{variant}", *HARDENED, *OPEN, "-v", f"{volume}:/var/lib/nightjar", variant=variant) as box:
        with box.client("hard") as client:
            check(client.publish("a/b", b"kept", retain=True) in (0, 0x10), "publish")
        pid = int(stage.engine.state(box.name, "Pid"))
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        for field in ("Uid", "Gid"):
            ids = re.search(rf"{field}:\s*(.*)", status)[1].split()
            check(set(ids) == {"10001"}, f"{field}: {ids}")
        check(re.search(r"CapEff:\s*0+$", status, re.M), "it has capabilities")
        changed = stage.engine.out("diff", box.name)
        check(not changed, f"it wrote outside of the volume: {changed}")


@each_variant
def health_is_told(stage, variant):
    with stage.box(f"health-{variant}", *OPEN, "--health-interval", "1s", variant=variant) as box:
        until(lambda: stage.engine.state(box.name, "Health.Status") == "healthy", "healthy", 15)
        done = stage.engine.run("exec", box.name, "nightjar", "healthcheck")
        check(done.stdout == "healthy\n", done.stdout)
        done = stage.engine.run("exec", box.name, "nightjar", "ctl", "status", "--output", "json")
        check(json.loads(done.stdout)["node"] == "nightjar@127.0.0.1", done.stdout)


@each_variant
def stop_drains_and_a_new_container_goes_on(stage, variant):
    """docker stop: 0x8B to clients, code 0, in seconds; the next container with the volume is the same node."""
    volume = stage.engine.volume(f"drain-{variant}")
    words = (*OPEN, "-v", f"{volume}:/var/lib/nightjar")
    with stage.box(f"drain-{variant}", *words, variant=variant) as box:
        sleeper = box.client("sleeper", clean=False, properties={"session_expiry": 3600})
        check(sleeper.subscribe("to/sleeper") == 1, "subscribe")
        sleeper.end()
        client = box.client("witness")
        check(client.publish("to/sleeper", b"wake up") == 0, "publish")
        begin = time.monotonic()
        stage.engine.run("stop", box.name)
        took = time.monotonic() - begin
        packet = client.packet()
        check(packet and packet.kind == wire.DISCONNECT and packet.rc == 0x8B, packet)
        check(stage.engine.state(box.name, "ExitCode") == "0", stage.engine.logs(box.name))
        check(took < 6, f"docker stop took {took:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            before = pathlib.Path(folder, "before")
            before.mkdir()
            box.ca(before)
            first = (before / "ca.crt").read_bytes()
    with stage.box(f"drain2-{variant}", *words, variant=variant) as box, tempfile.TemporaryDirectory() as folder:
        back = box.client("sleeper", clean=False, properties={"session_expiry": 3600})
        check(back.connack.session_present, "the session is lost")
        check(back.message().payload == b"wake up", "another message")
        box.ca(folder)
        check(pathlib.Path(folder, "ca.crt").read_bytes() == first, "another certificate authority")


@case
def killed_in_the_middle_of_writing(stage):
    """SIGKILL under load, five times: what was acknowledged is there after each start."""
    volume = stage.engine.volume("killed")
    acked = {}
    with stage.box("killed", *OPEN, "-v", f"{volume}:/var/lib/nightjar") as box:
        with box.client("keeper", clean=False, properties={"session_expiry": 3600}) as keeper:
            keeper.subscribe("kept/#")
        for turn in range(5):
            def write(turn=turn, port=box.ports[1883]):
                try:
                    with Client(port, f"writer-{turn}") as writer:
                        for number in range(100_000):
                            topic = f"kept/{number % 50}"
                            body = f"{turn}.{number}".encode()
                            if writer.publish(topic, body, retain=True) == 0:
                                acked.setdefault(topic, []).append(body)
                except (Failed, OSError):
                    pass

            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(0.4 + 0.1 * turn)
            stage.engine.run("kill", box.name)
            writer.join(20)
            stage.engine.run("start", box.name)
            box.ready(turn + 2)
            want = sum(map(len, acked.values()))
            check(want, "nothing was acknowledged")
            # The queue holds the last thousand; the retained messages tell of each topic's last one.
            with box.client(f"reader-{turn}") as reader:
                reader.subscribe("kept/#")
                last = {}
                while not set(acked) <= set(last):
                    message = reader.message()
                    last[message.topic] = message.payload
                for topic, bodies in acked.items():
                    check(last[topic] == bodies[-1] or later(last[topic], bodies[-1]),
                          f"turn {turn}: {topic} has {last[topic]}, acknowledged was {bodies[-1]}")
        with box.client("keeper", clean=False, properties={"session_expiry": 3600}) as keeper:
            check(keeper.connack.session_present, "the session is lost")
            keeper.message()


def later(got, acknowledged):
    """A message whose acknowledgement was cut off may be there too."""
    return [int(part) for part in got.split(b".")] > [int(part) for part in acknowledged.split(b".")]


def refused(stage, word, code, told, *words, command=("serve",)):
    box = stage.box(word, *words, command=command, ports=(), wait=False)
    with box:
        got, said = box.ended()
        check(got == code, f"exit code {got}: {said}")
        for part in told:
            check(part in said, f"no {part!r} in: {said}")


@case
def a_wrong_environment_name_is_named(stage):
    refused(stage, "env", 2, ("NIGHTJAR_AUTH__ALLOW_ANONYMUS", "did you mean NIGHTJAR_AUTH__ALLOW_ANONYMOUS?"),
            "-e", "NIGHTJAR_AUTH__ALLOW_ANONYMUS=true")
    refused(stage, "env2", 2, ("NIGHTJAR_MQTT__MAX_QOS",), "-e", "NIGHTJAR_MQTT__MAX_QOS=three")


@case
def names_that_docker_links_inject_are_no_settings(stage):
    links = {"NIGHTJAR_PORT": "tcp://10.0.0.1:1883", "NIGHTJAR_PORT_1883_TCP_ADDR": "10.0.0.1",
             "NIGHTJAR_SERVICE_HOST": "10.0.0.1", "NIGHTJAR_SERVICE_PORT_MQTT": "1883"}
    words = [part for name, value in links.items() for part in ("-e", f"{name}={value}")]
    with stage.box("links", *words, *OPEN) as box:
        box.client("linked").end()


@case
def a_secret_in_a_file_is_read(stage):
    """`_FILE` names a mounted secret; what is in it is not in `config print`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret = pathlib.Path(folder, "secret")
        secret.write_text("not to be seen\n")
        secret.chmod(0o644)
        chain = '[{kind="mysql", password="x"}]'
        refused(stage, "secret", 0, ("api.admin_password", "admin_password"), "-v", f"{folder}:/run/secrets:ro",
                "-e", "NIGHTJAR_API__ADMIN_PASSWORD_FILE=/run/secrets/secret",
                command=("config", "explain", "api.admin_password"))
        box = stage.box("print", "-v", f"{folder}:/run/secrets:ro", "-e", f"NIGHTJAR_AUTH__CHAIN={chain}",
                        "-e", "NIGHTJAR_API__ADMIN_PASSWORD_FILE=/run/secrets/secret", command=("config", "print"),
                        ports=(), wait=False)
        with box:
            code, said = box.ended()
            check(code == 0 and "not to be seen" not in said, said)
        refused(stage, "nosecret", 2, ("NIGHTJAR_API__ADMIN_PASSWORD_FILE", "/run/secrets/none"),
                "-e", "NIGHTJAR_API__ADMIN_PASSWORD_FILE=/run/secrets/none")


@case
def a_configuration_file_is_mounted(stage):
    """At /etc/nightjar/nightjar.toml; `check` in a container says what is wrong, with the line."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        config = pathlib.Path(folder, "nightjar.toml")
        config.write_text("[auth]\nallow_anonymous = true\n[mqtt]\nmax_qos = 1\n")
        mount = ("-v", f"{folder}:/etc/nightjar:ro")
        with stage.box("config", *mount) as box:
            with box.client("configured") as client:
                check(client.connack.properties.get("maximum_qos") == 1, client.connack)
        refused(stage, "check", 0, ("configuration is right",), *mount, command=("check",))
        config.write_text("[mqtt]\nmax_quos = 1\n")
        refused(stage, "check2", 2, ("/etc/nightjar/nightjar.toml:2", "max_qos"), *mount, command=("check",))


@case
def data_that_cannot_be_written_is_a_clear_error(stage):
    """A read-only volume, and a folder of the host that belongs to root: what to do stands in the message."""
    volume = stage.engine.volume("readonly")
    refused(stage, "readonly", 2, ("node.data_dir", "Read-only"), "-v", f"{volume}:/var/lib/nightjar:ro")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        refused(stage, "foreign", 2, ("node.data_dir", "/var/lib/nightjar", "Permission denied", "chown -R 10001:10001"), "-v", f"{folder}:/var/lib/nightjar")


@case
def a_port_in_use_is_a_clear_error(stage):
    """Twice in one configuration, and on the host's network by another program."""
    refused(stage, "twice", 2, ("1883",), "-e", "NIGHTJAR_LISTENERS__WS__DEFAULT__BIND=0.0.0.0:1883")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = {"NIGHTJAR_LISTENERS__TLS__DEFAULT__BIND": "127.0.0.1:0", "NIGHTJAR_LISTENERS__WS__DEFAULT__BIND": "127.0.0.1:0",
                "NIGHTJAR_LISTENERS__WSS__DEFAULT__BIND": "127.0.0.1:0", "NIGHTJAR_API__BIND": "127.0.0.1:0",
                "NIGHTJAR_LISTENERS__MQTTSN__DEFAULT__BIND": "127.0.0.1:0",
                "NIGHTJAR_LISTENERS__TCP__DEFAULT__BIND": f"127.0.0.1:{port}"}
        words = [part for name, value in free.items() for part in ("-e", f"{name}={value}")]
        refused(stage, "taken", 2, ("listeners.tcp.default", str(port)), "--net=host", *words)


@case
def anonymous_clients_stay_out_unless_asked_for(stage):
    """The quick start's switch is what lets them in: a published port is not loopback."""
    with stage.box("closed") as box:
        client = box.client("stranger", rc=None)
        check(client.connack.rc == 0x87, client.connack)


def http(box, path, body=None, token=None):
    """(status, content type, body) of a request to the dashboard's port."""
    request = urllib.request.Request(f"http://127.0.0.1:{box.ports[18083]}{path}", headers={"accept": "*/*"})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers.get("content-type", ""), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("content-type", ""), error.read()


@each_variant
def dashboard_api_and_metrics_answer(stage, variant):
    """On 18083: the page, /status, /metrics without a token; the API with the password that was made at first start."""
    with stage.box(f"http-{variant}", *OPEN, variant=variant) as box, tempfile.TemporaryDirectory() as folder:
        status, kind, body = http(box, "/")
        check(status == 200 and "text/html" in kind and b"Nightjar" in body, f"{status} {kind} {body[:200]}")
        status, _, body = http(box, "/status")
        check(status == 200 and b"is running" in body, f"{status} {body}")
        status, _, body = http(box, "/metrics")
        check(status == 200 and b"nightjar_" in body, f"{status} {body[:200]}")
        check(http(box, "/api/v1/clients")[0] == 401, "the API answers without a token")
        stage.engine.run("cp", f"{box.name}:/var/lib/nightjar/data/admin-password", f"{folder}/password")
        password = pathlib.Path(folder, "password").read_text().strip()
        status, _, body = http(box, "/api/v1/login", {"username": "admin", "password": password})
        check(status == 200, f"login: {status} {body}")
        token = json.loads(body)["token"]
        with box.client("seen-by-the-api"):
            _, _, body = http(box, "/api/v1/clients", token=token)
            check([row["clientid"] for row in json.loads(body)["data"]] == ["seen-by-the-api"], body)


def readme_lines():
    """The commands of README's Docker section, as words."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"(?ms)^## In Docker\n(.*?)^## ", text)
    check(section, "README has no section In Docker")
    code = "\n".join(line[4:] for line in section[1].splitlines() if line.startswith("    ")).replace("\\\n", " ")
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


@case
def readme_is_true_line_by_line(stage):
    """Each line of the section, in order, in a folder of its own. What differs: the image is there, host ports are free
    ones, and names are this test's."""
    name = stage.engine.name("readme")
    volume = stage.engine.volume("readme")
    ports = {}

    def other(word):
        published = re.fullmatch(r"(\d+):(\d+)(/udp)?", word)
        if published:
            host = ports.setdefault(published[2], free_port())
            return f"127.0.0.1:{host}:{published[2]}{published[3] or ''}"
        if word == "nightjar-data:/var/lib/nightjar":
            return f"{volume}:/var/lib/nightjar"
        return word.replace("nightjar:/var", f"{name}:/var")

    seen = set()
    with tempfile.TemporaryDirectory() as folder:
        for line in readme_lines():
            seen.add(tuple(line[:2]))
            if line[:2] == ["docker", "build"]:
                for word in line[2:]:
                    check(not word.startswith("docker/") or (ROOT / word).exists(), f"{word} is not there")
                continue
            words = [other(word) for word in line]
            if words[:2] == ["docker", "run"]:
                words[-1] = stage.images["slim"]
                stage.engine.remove(name)
            if words[0] == "docker":
                at = [i for i, word in enumerate(words) if word == "nightjar"]
                # The container, not the program that is run in it.
                if at and words[1] in ("run", "exec", "stop", "start", "logs"):
                    words[at[0]] = name
            elif words[0] in ("mosquitto_pub", "mosquitto_sub"):
                at = words.index("-p") + 1
                words[at] = str(ports[words[at]])
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
                                  stdin=subprocess.DEVNULL, env=stage.engine.env)
            check(done.returncode == 0, f"{shlex.join(line)}: {done.returncode}: {done.stdout}{done.stderr}")
            if words[:2] == ["docker", "run"] and "-d" in words:
                until(lambda: "nightjar ready:" in stage.engine.logs(name), "the ready line", 30)
    check({("docker", "build"), ("docker", "run"), ("docker", "cp"), ("docker", "exec")} <= seen, f"README has only {seen}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--target", required=True, help="folder of what is kept between runs")
    parser.add_argument("--only", default="")
    parser.add_argument("--debug", action="store_true", help="the binary is a debug build: sizes are told, not judged")
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    try:
        with Engine() as engine:
            begin = time.monotonic()
            stage = Stage(engine, pathlib.Path(args.bin).resolve(), args.target, args.debug)
            print(f"      engine, base and images: {time.monotonic() - begin:.1f} s", flush=True)
            for name, fn in CASES:
                if args.only not in name:
                    continue
                begin = time.monotonic()
                try:
                    fn(stage)
                    results.ok(name, time.monotonic() - begin)
                except (Failed, DockerError, OSError, wire.WireError, sn_client.MqttSnError, subprocess.SubprocessError) as error:
                    results.fail(name, str(error) or repr(error), time.monotonic() - begin)
            for image in stage.images.values():
                engine.run("image", "rm", "-f", image, check=False)
    except Missing as why:
        results.skip("docker", str(why))
    except (DockerError, subprocess.SubprocessError) as error:
        results.fail("docker", str(error))
    return results.close("docker")


if __name__ == "__main__":
    sys.exit(main())
