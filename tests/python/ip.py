"""IP packets and the capsules of RFC 9484 section 4.7, written from the RFCs alone."""

import ipaddress
import struct
from dataclasses import dataclass

from aioquic.buffer import Buffer, encode_uint_var

ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT = 1, 2, 3

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ALL_NODES = ipaddress.ip_address("ff02::1")


def entry(request_id, prefix):
    """An entry of ADDRESS_ASSIGN or ADDRESS_REQUEST; `prefix` is text such as `192.0.2.1/32`."""
    address, length = prefix.split("/")
    address = ipaddress.ip_address(address)
    return (
        encode_uint_var(request_id) + bytes([address.version]) + address.packed + bytes([int(length)])
    )


def entries(value):
    """The entries of ADDRESS_ASSIGN or ADDRESS_REQUEST, as pairs of ID and prefix."""
    buffer, found = Buffer(data=value), []
    while not buffer.eof():
        request_id = buffer.pull_uint_var()
        address = ipaddress.ip_address(buffer.pull_bytes(4 if buffer.pull_uint8() == 4 else 16))
        found.append((request_id, f"{address}/{buffer.pull_uint8()}"))
    return found


def route(start, end, protocol=0):
    """A range of ROUTE_ADVERTISEMENT."""
    start, end = ipaddress.ip_address(start), ipaddress.ip_address(end)
    return bytes([start.version]) + start.packed + end.packed + bytes([protocol])


def routes(value):
    """The ranges of ROUTE_ADVERTISEMENT, as triples of start, end and protocol."""
    buffer, found = Buffer(data=value), []
    while not buffer.eof():
        length = 4 if buffer.pull_uint8() == 4 else 16
        start, end = (str(ipaddress.ip_address(buffer.pull_bytes(length))) for _ in range(2))
        found.append((start, end, buffer.pull_uint8()))
    return found


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def packet(source, destination, protocol, payload, hop_limit=64):
    """One IP packet."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if source.version == 6:
        return (
            struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
            + source.packed
            + destination.packed
            + payload
        )
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, hop_limit, protocol, 0)
    header += source.packed + destination.packed
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def icmp(source, destination, kind, code, body):
    """An ICMP or ICMPv6 message in a packet; `body` is what follows the checksum."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    message = bytes([kind, code, 0, 0]) + body
    pseudo = b""
    if source.version == 6:
        pseudo = source.packed + destination.packed + struct.pack("!II", len(message), ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return packet(source, destination, ICMPV6 if source.version == 6 else ICMP, message)


def echo(source, destination, sequence, data=b"pasque"):
    """An echo request."""
    kind = 128 if ipaddress.ip_address(source).version == 6 else 8
    return icmp(source, destination, kind, 0, struct.pack("!HH", 0x5051, sequence) + data)


def udp(source, destination, payload, ports=(4660, 9)):
    """A UDP datagram."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    header = struct.pack("!HHH", *ports, 8 + len(payload))
    pseudo = source.packed + destination.packed + struct.pack("!II", 8 + len(payload), UDP)
    total = checksum(pseudo + header + b"\0\0" + payload) or 0xFFFF
    return packet(source, destination, UDP, header + struct.pack("!H", total) + payload)


@dataclass
class Packet:
    """A packet that has come, taken apart."""

    source: object
    destination: object
    protocol: int
    hop_limit: int
    payload: bytes
    whole: bytes

    @classmethod
    def parse(cls, data):
        if data[0] >> 4 == 6:
            length, protocol, hop_limit = struct.unpack("!HBB", data[4:8])
            assert len(data) == 40 + length, "the packet fills the datagram"
            ends = data[8:24], data[24:40]
            payload = data[40:]
        else:
            length, hop_limit, protocol = struct.unpack("!H", data[2:4])[0], data[8], data[9]
            assert len(data) == length, "the packet fills the datagram"
            start = (data[0] & 15) * 4
            assert checksum(data[:start]) == 0, "the header's checksum"
            ends = data[12:16], data[16:20]
            payload = data[start:]
        ends = [ipaddress.ip_address(end) for end in ends]
        return cls(*ends, protocol, hop_limit, payload, data)

    @property
    def icmp(self):
        """Type and code, if this is ICMP of either version."""
        return tuple(self.payload[:2]) if self.protocol in (ICMP, ICMPV6) else None

    def echo_reply(self, address):
        """The answer of `address`, if this is an echo request that it should answer."""
        kind = {(8, 0): 0, (128, 0): 129}.get(self.icmp)
        if kind is None or self.destination not in (ipaddress.ip_address(address), ALL_NODES):
            return None
        return icmp(address, self.source, kind, 0, self.payload[4:])
