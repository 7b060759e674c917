"""Cases of CONNECT-IP: `connect_ip.py CASE PROXY CA`.

The proxy has the pools 10.99.0.1/24 and fd99::1/64 and offers 10.99.0.0/24, 10.88.0.0/24 and
fd99::/64. Ends with exit code 0 if what RFC 9484 demands has happened, and with a traceback otherwise.
"""

import asyncio
import ipaddress
import random
import sys
from urllib.parse import quote

from aioquic.h3.connection import Setting

import ip
from masque import PATIENCE, Tunnel, capsule, capsules, proxy

H3_MESSAGE_ERROR = 0x010E

POOLS = [ipaddress.ip_network(pool) for pool in ("10.99.0.0/24", "fd99::/64")]
PROXY = {4: "10.99.0.1", 6: "fd99::1"}
ROUTES = [
    ("10.88.0.0", "10.88.0.255", 0),
    ("10.99.0.0", "10.99.0.255", 0),
    ("fd99::", "fd99::ffff:ffff:ffff:ffff", 0),
]

# Bytes of whole capsules that no endpoint may take (RFC 9484 section 4.7).
ZEROS = "00" * 15
MALFORMED = {
    "assign: version 5": "01 07 00 05 c0 00 02 0b 20",
    "assign: prefix of 33 bits": "01 07 00 04 c0 00 02 0b 21",
    "assign: prefix of 129 bits": f"01 13 00 06 {ZEROS} 01 81",
    "assign: host bits": "01 07 00 04 c0 00 02 0b 18",
    "assign: IPv6 host bits": f"01 13 00 06 20 01 0d b8 {'00' * 11} 01 40",
    "assign: one byte too many": "01 08 00 04 c0 00 02 0b 20 00",
    "assign: an ID and no more": "01 08 00 04 c0 00 02 0b 20 05",
    "assign: no prefix length": "01 06 00 04 c0 00 02 0b",
    "request: empty": "02 00",
    "request: ID 0": "02 07 00 04 00 00 00 00 20",
    "request: an ID twice": f"02 1a 01 04 00 00 00 00 20 01 06 00 {ZEROS} 80",
    "route: start above end": "03 0a 04 c0 00 02 09 c0 00 02 08 00",
    "route: IPv6 first": f"03 2c 06 00 {ZEROS} {ZEROS} 01 00 04 c0 00 02 00 c0 00 02 01 00",
    "route: protocols descend": "03 14 04 c0 00 02 00 c0 00 02 01 11 04 c0 00 02 02 c0 00 02 03 06",
    "route: overlap": "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 09 c0 00 02 14 00",
    "route: addresses descend": "03 14 04 c0 00 02 0a c0 00 02 14 00 04 c0 00 02 00 c0 00 02 09 00",
    "route: cut short": "03 09 04 c0 00 02 00 c0 00 02 09",
    "route: any beside one protocol": "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 05 c0 00 02 05 11",
}


class IpTunnel(Tunnel):
    """A tunnel of IP packets, or the refusal of one."""

    def __init__(self, tunnel):
        super().__init__(tunnel.client, tunnel.stream_id, tunnel.stream)
        self.taken = 0

    async def next_capsule(self, wanted):
        """The value of the next capsule of the type `wanted`; others are passed over."""
        while True:
            await self.client.until(
                lambda: len(capsules(self.stream.data)[0]) > self.taken, f"capsule {wanted}"
            )
            kind, value = capsules(self.stream.data)[0][self.taken]
            self.taken += 1
            if kind == wanted:
                return value

    async def assignment(self):
        return ip.entries(await self.next_capsule(ip.ADDRESS_ASSIGN))

    async def routes(self):
        return ip.routes(await self.next_capsule(ip.ROUTE_ADVERTISEMENT))

    def request(self, *entries):
        value = b"".join(ip.entry(*entry) for entry in entries)
        self.send_stream(capsule(ip.ADDRESS_REQUEST, value))

    async def addresses(self):
        """Its addresses by IP version, from the first assignment."""
        self.own = {}
        for _, prefix in await self.assignment():
            address = ipaddress.ip_address(prefix.split("/")[0])
            self.own[address.version] = str(address)
        return self.own

    async def packet(self):
        """The next packet that is none of the proxy's own probes, which are answered."""
        while True:
            packet = ip.Packet.parse(await self.receive())
            reply = packet.echo_reply(self.own[packet.source.version])
            if reply is None:
                return packet
            self.send(reply)

    async def ping(self, version, sequence=1):
        """An echo of the proxy's own address."""
        request = ip.echo(self.own[version], PROXY[version], sequence)
        # Datagrams may be lost, and the path may still be measured.
        for _ in range(20):
            self.send(request)
            try:
                return await asyncio.wait_for(self.reply(request), PATIENCE / 20)
            except TimeoutError:
                continue
        raise AssertionError(f"no answer to an echo over IPv{version}")

    async def reply(self, request):
        while True:
            packet = await self.packet()
            if packet.icmp in ((0, 0), (129, 0)) and request.endswith(packet.payload[4:]):
                return packet


class Case:
    def __init__(self, proxy_address, ca):
        host, port = proxy_address.rsplit(":", 1)
        self.host, self.port, self.authority, self.ca = host, int(port), proxy_address, ca

    def connection(self):
        return proxy(self.host, self.port, self.ca)

    async def open(self, client, target="*", ipproto="*", spelled=quote):
        settings = await client.settings()
        assert settings.get(Setting.ENABLE_CONNECT_PROTOCOL) == 1, settings
        assert settings.get(Setting.H3_DATAGRAM) == 1, settings
        scope = "/".join(spelled(value, safe="") for value in (target, ipproto))
        path = f"/.well-known/masque/ip/{scope}/"
        return IpTunnel(await client.tunnel(path, self.authority, "connect-ip"))

    async def accepted(self, client, *scope):
        tunnel = await self.open(client, *scope)
        headers = tunnel.stream.headers
        assert tunnel.status == 200, headers
        assert headers["capsule-protocol"] == "?1", headers
        for forbidden in ("content-length", "content-type", "transfer-encoding"):
            assert forbidden not in headers, headers
        return tunnel


async def assign(case):
    """Each tunnel gets an address of each pool, for itself, and the routes of its IP versions."""
    async with case.connection() as client:
        seen = set()
        for _ in range(3):
            tunnel = await case.accepted(client)
            assignment = await tunnel.assignment()
            assert [request_id for request_id, _ in assignment] == [0, 0], assignment
            for (_, prefix), pool in zip(assignment, POOLS):
                network = ipaddress.ip_network(prefix)
                assert network.num_addresses == 1 and network.subnet_of(pool), assignment
                assert str(network[0]) not in PROXY.values(), assignment
                assert prefix not in seen, (prefix, seen)
                seen.add(prefix)
            assert await tunnel.routes() == ROUTES
        one_version = await case.accepted(client, "10.88.0.0/24")
        ((_, prefix),) = await one_version.assignment()
        assert ipaddress.ip_network(prefix).version == 4, prefix
        assert await one_version.routes() == ROUTES[:1]


async def request(case):
    """Every entry of a request is answered under its ID, in a list of all that is assigned."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        first = [prefix for _, prefix in await tunnel.assignment()]
        tunnel.request((1, "0.0.0.0/32"), (2, "::/128"))
        assert await tunnel.assignment() == [(1, first[0]), (2, first[1])], "adopted"
        # Another one, by name; and what is not to be had.
        tunnel.request((7, "10.99.0.77/32"))
        assert dict(await tunnel.assignment())[7] == "10.99.0.77/32"
        tunnel.request((8, "203.0.113.7/32"), (9, "10.99.0.1/32"), (10, "fd99::/64"))
        assignment = dict(await tunnel.assignment())
        assert {1, 2, 7, 8, 9, 10} == set(assignment), assignment
        assert assignment[10] == "::/128", assignment
        for request_id in (8, 9):
            prefix = assignment[request_id]
            network = ipaddress.ip_network(prefix)
            assert prefix == "0.0.0.0/32" or network.subnet_of(POOLS[0]), assignment
            assert prefix != "10.99.0.1/32", "the proxy's own address"
        # A refusal is shown once.
        tunnel.request((11, "::/128"))
        assert 10 not in dict(await tunnel.assignment())


async def ping(case):
    """Packets go there and back, in both IP versions, up to 1280 bytes."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        await tunnel.addresses()
        for version in (4, 6):
            for sequence in range(3):
                reply = await tunnel.ping(version, sequence)
                assert str(reply.source) == PROXY[version]
                assert str(reply.destination) == tunnel.own[version]
                assert reply.hop_limit == 64, "the proxy originates this one"
        # Link-local scope ends at the tunnel's other end, which answers (RFC 9484 section 7.2).
        probe = ip.echo(tunnel.own[6], str(ip.ALL_NODES), 9, bytes(1232))
        tunnel.send(probe)
        reply = await asyncio.wait_for(tunnel.reply(probe), PATIENCE)
        assert len(reply.whole) == 1280


async def spellings(case):
    """A star may be encoded or not (RFC 9484 section 3 shows it bare)."""
    async with case.connection() as client:
        for spelled in (quote, lambda value, safe: value, lambda value, safe: "%2a"):
            tunnel = await case.open(client, spelled=spelled)
            assert tunnel.status == 200, tunnel.stream
            assert len(await tunnel.assignment()) == 2
            assert await tunnel.routes() == ROUTES


async def malformed(case):
    """A malformed capsule aborts its stream and nothing else."""
    async with case.connection() as client:
        bystander = await case.accepted(client)
        await bystander.addresses()
        for what, data in MALFORMED.items():
            tunnel = await case.accepted(client)
            tunnel.send_stream(bytes.fromhex(data))
            stream = tunnel.stream
            await client.until(lambda: stream.reset is not None, what)
            assert stream.reset == H3_MESSAGE_ERROR, (what, stream)
            assert stream.stopped == H3_MESSAGE_ERROR, (what, stream)
        await bystander.ping(4)


async def unused_capsules(case):
    """Legal capsules are taken at any time, any number of times, used or not."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        await tunnel.addresses()
        many = b"".join(ip.route(f"10.{a}.{b}.0", f"10.{a}.{b}.9") for a in range(10) for b in range(200))
        for _ in range(50):
            tunnel.send_stream(capsule(ip.ROUTE_ADVERTISEMENT, many))
            tunnel.send_stream(capsule(ip.ADDRESS_ASSIGN, ip.entry(0, "192.0.2.11/32")))
            tunnel.send_stream(capsule(0x17, bytes(100)))
            tunnel.send_stream(capsule(ip.ADDRESS_ASSIGN, b"") + capsule(ip.ROUTE_ADVERTISEMENT, b""))
            await asyncio.sleep(0)
        await tunnel.ping(4)


async def bad_packets(case):
    """Whatever is no packet of this tunnel is dropped, and ends nothing."""
    seed = random.randrange(2**32)
    print("seed", seed)
    noise = random.Random(seed)
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        await tunnel.addresses()
        for _ in range(1000):
            tunnel.send(noise.randbytes(noise.randrange(1200)), noise.choice((0, 0, 0, 2, 5)))
            if noise.random() < 0.02:
                await asyncio.sleep(0.001)
        await tunnel.ping(4)
        # A source that was not assigned: the sender is told (RFC 9484 section 7.2.1).
        stranger = str(ipaddress.ip_address(tunnel.own[4]) + 1)
        for _ in range(20):
            tunnel.send(ip.udp(stranger, "10.88.0.2", b"spoofed"))
            try:
                packet = await asyncio.wait_for(tunnel.packet(), 1)
            except TimeoutError:
                continue
            if packet.icmp == (3, 13):
                break
        else:
            raise AssertionError("no ICMP message about a source that was not assigned")
        assert str(packet.destination) == stranger
        assert packet.payload[8:28] == ip.udp(stranger, "10.88.0.2", b"spoofed")[:20]


async def refusals(case):
    """What is no scope is 400, and what cannot be resolved 502."""
    async with case.connection() as client:
        await client.settings()
        for target, ipproto, status in (
            ("192.0.2.1/24", "*", 400),
            ("192.0.2.0/33", "*", 400),
            ("2001:db8::/129", "*", 400),
            ("192.0.2.0/", "*", 400),
            ("192.0.2.0/ 8", "*", 400),
            ("fe80::1%eth0", "*", 400),
            ("*", "256", 400),
            ("*", "-1", 400),
            ("*", "tcp", 400),
            ("*", "0017", 400),
            ("*", "44", 400),
            ("10.200.0.0/16", "*", 403),
            ("nowhere.example", "*", 502),
        ):
            refused = await case.open(client, target, ipproto)
            assert refused.status == status, (target, ipproto, refused.stream)
            assert "capsule-protocol" not in refused.stream.headers, refused.stream
            assert "error=" in refused.proxy_status, refused.stream
        tunnel = await case.accepted(client)
        await tunnel.addresses()
        await tunnel.ping(4)


async def leave(case):
    """An address is free again a second after its tunnel has ended, in order or not."""
    async with case.connection() as client:
        for end in (True, False):
            tunnel = await case.accepted(client)
            own = (await tunnel.addresses())[4]
            if end:
                tunnel.send_stream(b"", end=True)
                await client.until(lambda: tunnel.stream.ended, "the end of the stream")
            else:
                client._quic.reset_stream(tunnel.stream_id, 0x010C)
                client._quic.stop_stream(tunnel.stream_id, 0x010C)
                client.transmit()
            await asyncio.sleep(1)
            another = await case.accepted(client)
            await another.addresses()
            another.request((1, f"{own}/32"))
            assert dict(await another.assignment())[1] == f"{own}/32"


CASES = (
    assign,
    request,
    ping,
    spellings,
    malformed,
    unused_capsules,
    bad_packets,
    refusals,
    leave,
)


async def main(name, *arguments):
    (case,) = [case for case in CASES if case.__name__ == name]
    await asyncio.wait_for(case(Case(*arguments)), 3 * PATIENCE)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
