"""Makes password-vectors.txt with the programs whose hashes people have: run it again only to add a form.

Needs mosquitto_passwd, and argon2-cffi, bcrypt and passlib from PyPI."""

import base64, hashlib, hmac, os, subprocess, tempfile

import argon2, bcrypt
from passlib.hash import pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512

password = "pa55 w\u00f6rd"
lines = ["# password (the text up to the last blank), its hash; made by vectors.py"]


def mosquitto(*flags):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "passwd")
        subprocess.run(["mosquitto_passwd", *flags, "-c", "-b", path, "u", password], check=True)
        return open(path).read().strip().split(":", 1)[1]


hashes = [
    mosquitto("-H", "sha512"),
    mosquitto("-H", "sha512-pbkdf2"),
    argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(password),
    argon2.PasswordHasher(time_cost=2, memory_cost=256, parallelism=4, type=argon2.Type.I).hash(password),
    bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode(),
    bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, b"2a")).decode(),
    pbkdf2_sha1.using(rounds=100).hash(password),
    pbkdf2_sha256.using(rounds=100).hash(password),
    pbkdf2_sha512.using(rounds=100).hash(password),
]
salt = os.urandom(16)
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
server = hmac.digest(salted, b"Server Key", "sha256")
b64 = lambda data: base64.b64encode(data).decode()
hashes.append(f"SCRAM-SHA-256$4096:{b64(salt)}${b64(stored)}:{b64(server)}")
lines += [f"{password} {text}" for text in hashes]
open(os.path.join(os.path.dirname(__file__), "password-vectors.txt"), "w").write("\n".join(lines) + "\n")
