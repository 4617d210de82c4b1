"""A Docker engine for tests: the one that runs, or one of our own with everything in a folder that goes away.

No image is pulled. The base is made once by debootstrap, kept as target/test-docker/base.tar, and imported under a name
of its own, so that nobody's debian:bookworm-slim is touched.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BASE = "nightjar-test/debian:bookworm-slim"
# What debootstrap installs that an image has no use for.
SLIM = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./var/cache/apt/*", "./var/lib/apt/lists/*",
        "./var/log/*", "./dev/*", "./proc/*", "./sys/*")


class Missing(Exception):
    """Something that these tests need is not on this machine, or they may not use it."""


class DockerError(Exception):
    """A docker command failed."""


class Engine:
    """`docker` commands against one daemon."""

    def __init__(self):
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTJAR_")}
        # Debian's engine has the classic builder.
        self.env["DOCKER_BUILDKIT"] = "0"
        self.daemon, self.dir = None, None
        self.containers, self.volumes = [], []
        self.prefix = f"nightjar-test-{os.getpid()}"

    # ---- the daemon ----

    def __enter__(self):
        if not shutil.which("docker"):
            raise Missing("docker is not installed (Debian package docker.io)")
        if self.run("info", check=False).returncode != 0:
            self._start()
        return self

    def _start(self):
        dockerd = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if not dockerd:
            raise Missing("no Docker daemon answers, and dockerd is not installed")
        if os.geteuid() != 0:
            raise Missing("no Docker daemon answers, and only root can start one")
        self.network = network_state()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-docker-"))
        socket = self.dir / "docker.sock"
        self.env["DOCKER_HOST"] = f"unix://{socket}"
        with open(self.dir / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [dockerd, "--data-root", self.dir / "data", "--exec-root", self.dir / "exec",
                 "--pidfile", self.dir / "docker.pid", "-H", f"unix://{socket}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        end = time.monotonic() + 40
        while self.run("info", check=False).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > end:
                said = (self.dir / "log").read_text(errors="replace").splitlines()
                self.__exit__()
                raise Missing(f"dockerd does not start here: {said[-1] if said else 'no output'}")
            time.sleep(0.2)

    def __exit__(self, *_):
        for name in self.containers:
            self.run("rm", "-f", "-v", name, check=False)
        for name in self.volumes:
            self.run("volume", "rm", "-f", name, check=False)
        if self.daemon:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
            # Mounts that containers' networks leave behind.
            for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
                place = line.split()[1]
                if place.startswith(str(self.dir)):
                    subprocess.run(["umount", "-l", place], check=False, capture_output=True)
            shutil.rmtree(self.dir, ignore_errors=True)
            restore_network(self.network)
            self.daemon = None

    # ---- commands ----

    def run(self, *words, check=True, timeout=180, **options):
        done = subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, timeout=timeout,
                              stdin=options.pop("stdin", subprocess.DEVNULL), check=False, env=self.env, **options)
        if check and done.returncode != 0:
            raise DockerError(f"docker {' '.join(map(str, words))}: {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return done

    def out(self, *words, **options):
        return self.run(*words, **options).stdout.strip()

    def name(self, word):
        """A container's name that is removed at the end."""
        name = f"{self.prefix}-{word}"
        self.containers.append(name)
        return name

    def volume(self, word):
        name = f"{self.prefix}-{word}"
        self.volumes.append(name)
        return name

    def logs(self, name):
        done = self.run("logs", name, check=False)
        return done.stdout + done.stderr

    def state(self, name, field="Status"):
        return self.out("inspect", "-f", f"{{{{.State.{field}}}}}", name)

    def remove(self, name):
        self.run("rm", "-f", "-v", name, check=False)

    # ---- images ----

    def base(self, target):
        """Imports the base image, made once."""
        if self.run("image", "inspect", BASE, check=False).returncode == 0:
            return BASE
        kept = pathlib.Path(target) / "test-docker" / "base.tar"
        if not kept.exists():
            make_base(kept)
        with open(kept, "rb") as tar:
            self.run("import", "-", BASE, stdin=tar)
        return BASE

    def build(self, context, tag, *words, timeout=600):
        """Builds an image and returns its size in bytes."""
        self.run("build", "-q", "-t", tag, *words, context, timeout=timeout)
        return int(self.out("image", "inspect", "-f", "{{.Size}}", tag))


def network_state():
    """What a Docker daemon changes on a machine: forwarding, the policy for it, and its bridge."""
    policy = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True, check=False).stdout
    return {
        "forward": pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "accept": policy.startswith("-P FORWARD ACCEPT"),
        "bridge": pathlib.Path("/sys/class/net/docker0").exists(),
    }


def restore_network(before):
    if before["accept"]:
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], capture_output=True, check=False)
    if not before["bridge"]:
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text(before["forward"])


def make_base(kept):
    """A small Debian as a tar file."""
    debootstrap = shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not debootstrap:
        raise Missing("debootstrap is not installed (Debian package debootstrap)")
    if os.geteuid() != 0:
        raise Missing("only root can run debootstrap")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nightjar-base-") as folder:
        done = subprocess.run([debootstrap, "--variant=minbase", "--include=ca-certificates", "bookworm", folder],
                              capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Missing(f"debootstrap fails: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
        fresh = kept.with_suffix(".new")
        subprocess.run(["tar", "-C", folder, *[f"--exclude={path}" for path in SLIM], "-cf", fresh, "."],
                       check=True, capture_output=True, timeout=300)
        fresh.replace(kept)


@contextlib.contextmanager
def binary_context(binary):
    """A folder as docker/Dockerfile.binary wants it, with a stripped copy of the binary."""
    with tempfile.TemporaryDirectory(prefix="nightjar-context-") as folder:
        folder = pathlib.Path(folder)
        (folder / "docker").mkdir()
        for name in ("Dockerfile.binary", "rootfs.sh"):
            shutil.copy(ROOT / "docker" / name, folder / "docker")
        place = folder / "target" / "release" / "nightjar"
        place.parent.mkdir(parents=True)
        shutil.copy(binary, place)
        if shutil.which("strip"):
            subprocess.run(["strip", "-s", str(place)], check=True)
        yield folder
