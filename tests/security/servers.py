"""Real databases of Debian's packages, each on a free loopback port with a directory of its own."""

import contextlib
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

from kit import Failed, check, free_port, until


class Missing(Exception):
    """What a case needs is not installed."""


def program(name):
    folders = os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/usr/local/sbin"]
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    found = shutil.which(name, path=":".join(folders))
    if not found:
        raise Missing(f"{name} is not installed")
    return found


def as_nobody(folder, command):
    """Servers that refuse to run as root run as nobody there."""
    if os.geteuid() != 0:
        return command
    subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", *command]


def must(command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=120, **options)
    check(done.returncode == 0, f"{command[0]}: {done.stdout[-300:]}{done.stderr[-600:]}")
    return done.stdout


class Server:
    """A server as a process; `stop` and `start` keep its port and what it holds."""

    def __init__(self, name):
        self.name, self.port, self.process = name, free_port(), None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"nightjar-test-{name}-"))
        os.chmod(self.dir, 0o755)

    def __enter__(self):
        try:
            self.prepare()
            self.start()
            self.fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self):
        self.process = subprocess.Popen(self.command(), cwd=self.dir, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens():
            check(self.process.poll() is None, f"{self.name} ended with {self.process.poll()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True

        until(listens, f"{self.name} listens", 90)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def prepare(self):
        pass

    def fill(self):
        pass


ETC = pathlib.Path(__file__).resolve().parent.parent.parent / "etc" / "auth"


class MariaDb(Server):
    def __init__(self):
        super().__init__("mariadb")
        self.install, self.server, self.shell = (program(it) for it in ("mariadb-install-db", "mariadbd", "mariadb"))

    def prepare(self):
        must(as_nobody(self.dir, [self.install, "--no-defaults", "--skip-test-db",
                                  "--auth-root-authentication-method=normal", f"--datadir={self.dir}/data"]),
             cwd=self.dir)

    def command(self):
        return as_nobody(self.dir, [self.server, "--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin",
                                    f"--port={self.port}", f"--datadir={self.dir}/data", f"--socket={self.dir}/sock",
                                    f"--pid-file={self.dir}/pid"])

    def run(self, text):
        return must([self.shell, "--no-defaults", "-N", "-uroot", f"--socket={self.dir}/sock"], input=text)

    def fill(self):
        self.run((ETC / "mysql.sql").read_text())


class Postgres(Server):
    def __init__(self):
        super().__init__("postgres")
        self.init, self.server, self.shell = (program(it) for it in ("initdb", "postgres", "psql"))

    def prepare(self):
        (self.dir / "password").write_text("db-pass\n")
        must(as_nobody(self.dir, [self.init, "-U", "postgres", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8",
                                  "--locale=C", f"--pwfile={self.dir}/password", "-D", f"{self.dir}/data"]), cwd=self.dir)

    def command(self):
        return as_nobody(self.dir, [self.server, "-D", f"{self.dir}/data", "-h", "127.0.0.1", "-p", str(self.port), "-F",
                                    "-k", str(self.dir)])

    def run(self, text, database="mqtt"):
        return must([self.shell, "-q", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-p",
                     str(self.port), "-d", database], input=text, env={**os.environ, "PGPASSWORD": "db-pass"})

    def fill(self):
        until(lambda: self._answers(), "postgres answers", 60)
        self.run("create database mqtt", "postgres")
        self.run((ETC / "postgres.sql").read_text())

    def _answers(self):
        with contextlib.suppress(Failed):
            return self.run("select 1", "postgres")


class Redis(Server):
    def __init__(self):
        super().__init__("redis")
        self.server, self.shell = program("redis-server"), program("redis-cli")

    def command(self):
        return [self.server, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "yes",
                "--requirepass", "change-me"]

    def run(self, text):
        out = must([self.shell, "-h", "127.0.0.1", "-p", str(self.port)], input=text,
                   env={**os.environ, "REDISCLI_AUTH": "change-me"})
        check("ERR" not in out, out)

    def fill(self):
        self.run((ETC / "redis.txt").read_text())
