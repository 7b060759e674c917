"""Cases of CONNECT-UDP: `connect_udp.py CASE PROXY CA TARGET...`, where addresses are `HOST:PORT`.

Ends with exit code 0 if what RFC 9298 demands has happened, and with a traceback otherwise.
"""

import asyncio
import sys

from aioquic.h3.connection import Setting

from masque import DATAGRAM, PATIENCE, RESERVED, ClientWithoutDatagrams, capsule, proxy

H3_MESSAGE_ERROR = 0x010E


def split(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Case:
    def __init__(self, proxy_address, ca, *targets):
        self.host, self.port = split(proxy_address)
        self.authority = proxy_address
        self.ca = ca
        self.targets = [split(target) for target in targets]

    def connection(self, **kwargs):
        return proxy(self.host, self.port, self.ca, **kwargs)

    async def open(self, client, target=0):
        settings = await client.settings()
        assert settings.get(Setting.ENABLE_CONNECT_PROTOCOL) == 1, settings
        assert settings.get(Setting.H3_DATAGRAM) == 1, settings
        tunnel = await client.open(*self.targets[target], self.authority)
        return tunnel

    async def accepted(self, client, target=0):
        tunnel = await self.open(client, target)
        headers = tunnel.stream.headers
        assert tunnel.status == 200, headers
        assert headers["capsule-protocol"] == "?1", headers
        for forbidden in ("content-length", "content-type", "transfer-encoding"):
            assert forbidden not in headers, headers
        return tunnel


async def echo(case):
    """0, 1 and 1200 bytes go there and back in QUIC DATAGRAM frames, to each target."""
    async with case.connection() as client:
        for target in range(len(case.targets)):
            tunnel = await case.accepted(client, target)
            for payload in (b"", b"x", bytes(range(256)) * 4 + bytes(176)):
                tunnel.send(payload)
                assert await tunnel.receive() == payload
            assert not tunnel.stream.data, "datagrams do not become capsules"


async def unknown_context(case):
    """A context ID that nobody registered is ignored, and ends nothing."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        for context in (1, 2, 5, 63, 64, 16384, 2**30, 2**62 - 1):
            tunnel.send(b"unknown", context)
        tunnel.send_stream(capsule(DATAGRAM, b"\x02unknown"))
        tunnel.send(b"known")
        assert await tunnel.receive() == b"known"


async def capsules_beside_datagrams(case):
    """A DATAGRAM capsule means what a DATAGRAM frame means, wherever it is cut; others are skipped."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        tunnel.send_stream(capsule(DATAGRAM, b"\x00one"))
        assert await tunnel.receive() == b"one"
        # The longest forms of every integer are good, too.
        tunnel.send_stream(bytes.fromhex("4000 4003 00 6869"))
        assert await tunnel.receive() == b"hi"
        tunnel.send_stream(capsule(RESERVED, bytes(100)) + capsule(0x40, b""))
        for byte in capsule(RESERVED, b"abc") + capsule(DATAGRAM, b"\x00piece by piece"):
            tunnel.send_stream(bytes([byte]))
        assert await tunnel.receive() == b"piece by piece"
        tunnel.send(b"frame")
        assert await tunnel.receive() == b"frame"


async def without_datagrams(case):
    """A client that announces no datagrams gets capsules, and no DATAGRAM frame."""
    async with case.connection(client=ClientWithoutDatagrams) as client:
        tunnel = await case.accepted(client)
        for payload in (b"", b"x", bytes(1200), bytes(20_000)):
            tunnel.send_stream(capsule(DATAGRAM, b"\x00" + payload))
            assert await tunnel.receive_capsule() == payload
        assert not tunnel.stream.datagrams


async def cut_capsule(case):
    """An end of stream inside a capsule is malformed; the connection and its other tunnels live."""
    async with case.connection() as client:
        bystander = await case.accepted(client)
        for cut in ("40", "00", "0005", "00050068"):
            tunnel = await case.accepted(client)
            tunnel.send_stream(bytes.fromhex(cut), end=True)
            stream = tunnel.stream
            await client.until(lambda: stream.reset is not None or stream.ended, "the end")
            assert stream.reset == H3_MESSAGE_ERROR, (cut, stream)
        bystander.send(b"alive")
        assert await bystander.receive() == b"alive"


async def orderly_end(case):
    """An end of stream between capsules ends the tunnel in order."""
    async with case.connection() as client:
        tunnel = await case.accepted(client)
        tunnel.send_stream(capsule(DATAGRAM, b"\x00last"), end=True)
        await client.until(lambda: tunnel.stream.ended, "the end of the stream")
        assert tunnel.stream.reset is None


async def refusals(case):
    """What cannot be reached is refused with the status and the error of RFC 9209 section 2.3."""
    async with case.connection() as client:
        await client.settings()
        for host, status, error in (
            ("10.0.0.1", 403, "error=destination_ip_prohibited"),
            ("fe80::1", 403, "error=destination_ip_prohibited"),
            ("nowhere.example", 502, 'error=dns_error;rcode="NXDOMAIN"'),
            ("broken.example", 502, 'error=dns_error;rcode="SERVFAIL"'),
            ("silent.example", 504, "error=dns_timeout"),
            ("2130706433", 400, "error=http_request_error"),
            ("a b", 400, "error=http_request_error"),
        ):
            refused = await client.open(host, 53, case.authority)
            assert refused.status == status, (host, refused.stream)
            assert error in refused.proxy_status.replace("; ", ";"), (host, refused.proxy_status)
            assert refused.proxy_status.startswith("tests.example;"), refused.proxy_status
            assert "capsule-protocol" not in refused.stream.headers, refused.stream
        # None of that has harmed the connection.
        tunnel = await case.accepted(client)
        tunnel.send(b"alive")
        assert await tunnel.receive() == b"alive"


async def other_protocols(case):
    """A protocol that is not spoken here is answered 501; its name is compared without case."""
    async with case.connection() as client:
        await client.settings()
        for protocol in ("connect-ip", "websocket", "connect-udp2"):
            refused = await client.open(*case.targets[0], case.authority, protocol)
            assert refused.status == 501, (protocol, refused.stream)
        accepted = await client.open(*case.targets[0], case.authority, "Connect-UDP")
        assert accepted.status == 200, accepted.stream


CASES = (
    echo,
    unknown_context,
    capsules_beside_datagrams,
    without_datagrams,
    cut_capsule,
    orderly_end,
    refusals,
    other_protocols,
)


async def main(name, *arguments):
    (case,) = [case for case in CASES if case.__name__ == name]
    await asyncio.wait_for(case(Case(*arguments)), 3 * PATIENCE)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
