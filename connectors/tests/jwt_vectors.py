"""Makes jwt-vectors.json: keys and tokens of another implementation. Needs pyjwt and cryptography from PyPI."""

import json, os

import jwt
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

claims = {"sub": "ann", "aud": ["mqtt", "other"], "iat": 1700000000, "exp": 4102444800}
keys = {
    "rsa": (rsa.generate_private_key(65537, 2048), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ["ES256"]),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ["ES384"]),
    "ed": (ed25519.Ed25519PrivateKey.generate(), ["EdDSA"]),
}
out = {"keys": {}, "jwks": {"keys": []}, "tokens": []}
for name, (key, algorithms) in keys.items():
    public = key.public_key()
    out["keys"][name] = public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
    algorithm = jwt.get_algorithm_by_name(algorithms[0])
    jwk = json.loads(algorithm.to_jwk(public))
    out["jwks"]["keys"].append({**{k: jwk[k] for k in jwk if k != "key_ops"}, "kid": name, "use": "sig"})
    for alg in algorithms:
        token = jwt.encode(claims, key, algorithm=alg, headers={"kid": name})
        out["tokens"].append({"key": name, "alg": alg, "token": token})
rsa_key = keys["rsa"][0].public_key()
out["keys"]["rsa-pkcs1"] = rsa_key.public_bytes(ser.Encoding.PEM, ser.PublicFormat.PKCS1).decode()
small = rsa.generate_private_key(65537, 1024).public_key()
out["keys"]["rsa-1024"] = small.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
json.dump(out, open(os.path.join(os.path.dirname(__file__), "jwt-vectors.json"), "w"), indent=1)
