"""Decrypts aesgcm with http_ece, in the place of an app. JSON in, hexadecimal plain text out."""

import json
import sys
from base64 import urlsafe_b64decode

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec


def decoded(text):
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parameter(header, name):
    for part in header.replace(",", ";").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return decoded(value)
    raise SystemExit(f"no {name} in {header!r}")


order = json.load(sys.stdin)
private = int.from_bytes(decoded(order["keys"]["private"]), "big")
plain = http_ece.decrypt(
    bytes.fromhex(order["body"]),
    salt=parameter(order["encryption"], "salt"),
    dh=parameter(order["crypto_key"], "dh"),
    private_key=ec.derive_private_key(private, ec.SECP256R1()),
    auth_secret=decoded(order["keys"]["auth"]),
    version="aesgcm",
)
print(plain.hex())
