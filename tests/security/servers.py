"""Real databases of Debian's packages, each on a free loopback port with a directory of its own."""

import contextlib
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading

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

    def own(self, files):
        """Copies that only the server's user may read."""
        copies = []
        for file in files:
            copy = self.dir / pathlib.Path(file).name
            if not copy.exists():
                shutil.copy(file, copy)
                os.chmod(copy, 0o600)
            copies.append(copy)
        return copies


class Between:
    """A port in front of a server's, that lets everything through, or does what a server in trouble does."""

    def __init__(self, target):
        self.target, self.mode, self.open = target, "through", set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.become("down")
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def become(self, mode):
        """`through`, `down`, `silent` or `nonsense`, from now on; what is connected is cut."""
        self.mode = mode
        for sock in list(self.open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == "down":
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client, self.mode), daemon=True).start()

    def _serve(self, client, mode):
        self.open.add(client)
        try:
            with client:
                if mode == "through":
                    with socket.create_connection(("127.0.0.1", self.target), 10) as server:
                        server.settimeout(None)
                        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                        back.start()
                        self._copy(client, server)
                        back.join()
                elif mode == "silent":
                    while client.recv(4096):
                        pass
                else:
                    # Half of the servers speak first.
                    client.sendall(bytes(range(256)) * 8)
                    while client.recv(4096):
                        client.sendall(b"\xde\xad\xbe\xef" * 64)
        except OSError:
            pass
        finally:
            self.open.discard(client)

    @staticmethod
    def _copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


ETC = pathlib.Path(__file__).resolve().parent.parent.parent / "etc" / "auth"


class MariaDb(Server):
    """With `tls`, a certificate and its key, connections without TLS are refused."""

    def __init__(self, tls=None):
        super().__init__("mariadb")
        self.tls = tls
        self.install, self.server, self.shell = (program(it) for it in ("mariadb-install-db", "mariadbd", "mariadb"))

    def prepare(self):
        must(as_nobody(self.dir, [self.install, "--no-defaults", "--skip-test-db",
                                  "--auth-root-authentication-method=normal", f"--datadir={self.dir}/data"]),
             cwd=self.dir)

    def command(self):
        return as_nobody(self.dir, [self.server, "--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin",
                                    f"--port={self.port}", f"--datadir={self.dir}/data", f"--socket={self.dir}/sock",
                                    f"--pid-file={self.dir}/pid", *self.secured()])

    def secured(self):
        if not self.tls:
            return []
        cert, key = self.own(self.tls)
        return [f"--ssl-cert={cert}", f"--ssl-key={key}", "--require-secure-transport=ON"]

    def run(self, text):
        return must([self.shell, "--no-defaults", "-N", "-uroot", f"--socket={self.dir}/sock"], input=text)

    def fill(self):
        self.run((ETC / "mysql.sql").read_text())


class Postgres(Server):
    """With `tls`, a certificate and its key, it speaks TLS to who asks for it."""

    def __init__(self, tls=None):
        super().__init__("postgres")
        self.tls = tls
        self.init, self.server, self.shell = (program(it) for it in ("initdb", "postgres", "psql"))

    def prepare(self):
        (self.dir / "password").write_text("db-pass\n")
        must(as_nobody(self.dir, [self.init, "-U", "postgres", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8",
                                  "--locale=C", f"--pwfile={self.dir}/password", "-D", f"{self.dir}/data"]), cwd=self.dir)

    def command(self):
        secured = []
        if self.tls:
            cert, key = self.own(self.tls)
            secured = ["-c", "ssl=on", "-c", f"ssl_cert_file={cert}", "-c", f"ssl_key_file={key}"]
            # Who comes by the network comes by TLS; the shell of `run` may.
            rules = self.dir / "data" / "pg_hba.conf"
            rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        return as_nobody(self.dir, [self.server, "-D", f"{self.dir}/data", "-h", "127.0.0.1", "-p", str(self.port), "-F",
                                    "-k", str(self.dir), *secured])

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
    """With `tls`, a certificate and its key, it speaks nothing else."""

    def __init__(self, tls=None):
        super().__init__("redis")
        self.tls = tls
        self.server, self.shell = program("redis-server"), program("redis-cli")

    def command(self):
        ports = ["--port", str(self.port)]
        if self.tls:
            cert, key = self.own(self.tls)
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
                     "--tls-auth-clients", "no", "--tls-ca-cert-file", str(cert)]
        return [self.server, "--bind", "127.0.0.1", *ports, "--save", "", "--appendonly", "yes",
                "--requirepass", "change-me"]

    def run(self, text):
        secured = ["--tls", "--insecure"] if self.tls else []
        out = must([self.shell, "-h", "127.0.0.1", "-p", str(self.port), *secured], input=text,
                   env={**os.environ, "REDISCLI_AUTH": "change-me"})
        check("ERR" not in out, out)

    def fill(self):
        self.run((ETC / "redis.txt").read_text())


class Slapd(Server):
    """OpenLDAP with the schema and the entries of etc/auth; with `tls`, a certificate and its key, also on `secure`."""

    def __init__(self, tls=None):
        super().__init__("slapd")
        self.tls, self.secure = tls, free_port()
        self.server, self.add = program("slapd"), program("slapadd")

    def prepare(self):
        schemas = pathlib.Path("/etc/ldap/schema")
        lines = [f"include {schemas}/{name}.schema" for name in ("core", "cosine", "inetorgperson")]
        lines += [f"include {ETC}/ldap.schema", "modulepath /usr/lib/ldap", "moduleload back_mdb",
                  f"pidfile {self.dir}/pid"]
        if self.tls:
            cert, key = self.own(self.tls)
            lines += [f"TLSCertificateFile {cert}", f"TLSCertificateKeyFile {key}"]
        lines += ["database mdb", 'suffix "dc=example,dc=org"', f"directory {self.dir}/data", "maxsize 10485760",
                  'rootdn "cn=admin,dc=example,dc=org"', "rootpw db-pass",
                  # Anybody may bind; only the owner, and for method = "hash" one reader, may see a password.
                  'access to attrs=userPassword by dn="cn=reader,dc=example,dc=org" read by anonymous auth by * none',
                  'access to * by * read']
        (self.dir / "slapd.conf").write_text("\n".join(lines) + "\n")
        (self.dir / "data").mkdir()
        reader = ("\ndn: cn=reader,dc=example,dc=org\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
                  "cn: reader\nuserPassword: read-me\n")
        (self.dir / "entries.ldif").write_text((ETC / "ldap.ldif").read_text() + reader)
        must([self.add, "-f", "slapd.conf", "-l", "entries.ldif"], cwd=self.dir)

    def command(self):
        places = f"ldap://127.0.0.1:{self.port}/"
        if self.tls:
            places += f" ldaps://127.0.0.1:{self.secure}/"
        # A debug level, even 0, keeps it in the foreground.
        return [self.server, "-f", f"{self.dir}/slapd.conf", "-h", places, "-d", "0"]
