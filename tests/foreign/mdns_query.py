"""Asks by multicast for services (RFC 6762) and prints "KIND PORT ADDRESS" of the first answer for each.

Usage: mdns_query.py SECONDS OWN_ADDRESS KIND...   What has not answered in time is printed as "KIND none".
"""

import socket
import struct
import sys
import time

seconds, own, kinds = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
GROUP = ("224.0.0.251", 5353)


def encode(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def decode(packet, at):
    parts, after = [], None
    while packet[at]:
        if packet[at] & 0xC0:
            after = after or at + 2
            at = struct.unpack_from(">H", packet, at)[0] & 0x3FFF
        else:
            parts.append(packet[at + 1 : at + 1 + packet[at]].decode())
            at += 1 + packet[at]
    return ".".join(parts), after or at + 1


def records(packet):
    _, flags, questions, *counts = struct.unpack_from(">6H", packet)
    at = 12
    for _ in range(questions):
        at = decode(packet, at)[1] + 4
    for _ in range(sum(counts) if flags & 0x8000 else 0):
        name, at = decode(packet, at)
        kind, _, _, length = struct.unpack_from(">HHIH", packet, at)
        yield name, kind, at + 10, length
        at += 10 + length


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("", 5353))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP[0]) + socket.inet_aton(own))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
query = struct.pack(">6H", 0, 0, len(kinds), 0, 0, 0)
query += b"".join(encode(kind + ".local") + struct.pack(">HH", 12, 1) for kind in kinds)

ports, addresses = {}, {}
deadline, ask = time.monotonic() + seconds, 0.0
while time.monotonic() < deadline and not all(kind in ports for kind in kinds):
    if time.monotonic() >= ask:
        sock.sendto(query, GROUP)
        ask = time.monotonic() + 1
    sock.settimeout(0.2)
    try:
        packet = sock.recv(9000)
    except TimeoutError:
        continue
    for name, kind, at, length in records(packet):
        if kind == 1:
            addresses[name] = socket.inet_ntoa(packet[at : at + length])
        elif kind == 33:
            host = decode(packet, at + 6)[0]
            for wanted in kinds:
                if name.endswith("." + wanted + ".local"):
                    ports[wanted] = (struct.unpack_from(">H", packet, at + 4)[0], host)
for kind in kinds:
    port, host = ports.get(kind, ("none", None))
    print(kind, port, *([addresses.get(host, "?")] if host else []))
