"""A proxy for one IP tunnel on aioquic: `ip_proxy.py CASE HOST:PORT`. Its certificate is worth nothing.

Says on standard output, line by line, what has come to pass, so that whoever runs the client can look
at its interface in between. Ends with exit code 0 if the client does what RFC 9484 demands, and with a
traceback otherwise.
"""

import asyncio
import datetime
import sys

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.buffer import Buffer
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import ip
from connect_ip import H3_MESSAGE_ERROR, MALFORMED
from masque import DATAGRAM, PATIENCE, capsule, capsules

FIRST, SECOND = "10.99.0.7", "10.99.0.8"
FIRST_V6 = "fd99::7"
PROXY = "10.99.0.1"
FAR = "10.88.0.2"

# A client that gets no address gives up after ten seconds.
SILENCE = 15


class Http(H3Connection):
    """HTTP/3 with extended CONNECT (RFC 9220) and datagrams (RFC 9297)."""

    def _get_local_settings(self):
        settings = super()._get_local_settings()
        settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        settings[Setting.H3_DATAGRAM] = 1
        return settings


class Proxy(QuicConnectionProtocol):
    """One connection, with at most one tunnel."""

    latest = None
    born = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Http(self._quic)
        self.headers, self.stream_id = None, None
        self.data, self.taken = b"", 0
        self.packets = []
        self.reset = self.stopped = self.closed = None
        self.ended = False
        self._news = asyncio.Condition()

    def quic_event_received(self, event):
        match event:
            case StreamReset() if event.stream_id == self.stream_id:
                self.reset = event.error_code
            case StopSendingReceived() if event.stream_id == self.stream_id:
                self.stopped = event.error_code
            case ConnectionTerminated():
                self.closed = event.error_code
        for news in self.http.handle_event(event):
            match news:
                case HeadersReceived():
                    self.headers = {n.decode(): v.decode() for n, v in news.headers}
                    self.stream_id = news.stream_id
                    self.ended |= news.stream_ended
                    type(self).latest = self
                    type(self).born.set()
                case DataReceived():
                    self.data += news.data
                    self.ended |= news.stream_ended
                case DatagramReceived():
                    buffer = Buffer(data=news.data)
                    if buffer.pull_uint_var() == 0:
                        self.packets.append(ip.Packet.parse(news.data[buffer.tell() :]))
        asyncio.ensure_future(self._tell())

    async def _tell(self):
        async with self._news:
            self._news.notify_all()

    async def until(self, condition, what, patience=PATIENCE):
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(condition), patience)
            except TimeoutError:
                raise AssertionError(f"waited in vain for {what}")

    def answer(self, status):
        headers = [(b":status", str(status).encode()), (b"capsule-protocol", b"?1")]
        self.http.send_headers(self.stream_id, headers)
        self.transmit()

    def send_stream(self, data):
        self.http.send_data(self.stream_id, data, False)
        self.transmit()

    def send(self, packet):
        self.http.send_datagram(self.stream_id, b"\0" + packet)
        self.transmit()

    def assign(self, *entries):
        value = b"".join(ip.entry(*entry) for entry in entries)
        self.send_stream(capsule(ip.ADDRESS_ASSIGN, value))

    def advertise(self, *ranges):
        value = b"".join(ip.route(*ends) for ends in ranges)
        self.send_stream(capsule(ip.ROUTE_ADVERTISEMENT, value))

    async def next_capsule(self, wanted):
        while True:
            await self.until(lambda: len(capsules(self.data)[0]) > self.taken, f"capsule {wanted}")
            kind, value = capsules(self.data)[0][self.taken]
            self.taken += 1
            if kind == wanted:
                return value
            assert kind != DATAGRAM, "datagrams do not become capsules"

    async def request(self):
        """The entries of the client's ADDRESS_REQUEST, as pairs of ID and prefix."""
        return ip.entries(await self.next_capsule(ip.ADDRESS_REQUEST))

    async def pong(self, source):
        """Waits for an echo request from `source` and answers it."""
        while True:
            await self.until(lambda: self.packets, f"an echo request from {source}")
            packet = self.packets.pop(0)
            reply = packet.echo_reply(packet.destination)
            if reply is not None and str(packet.source) == source:
                self.send(reply)
                return packet


def say(line):
    print(line, flush=True)


async def tunnel():
    """The client's tunnel, checked and accepted."""
    await asyncio.wait_for(Proxy.born.wait(), PATIENCE)
    proxy = Proxy.latest
    headers = proxy.headers
    assert headers[":method"] == "CONNECT" and headers[":protocol"] == "connect-ip", headers
    assert headers[":scheme"] == "https" and headers[":authority"], headers
    assert headers[":path"] in ("/.well-known/masque/ip/%2A/%2A/", "/.well-known/masque/ip/*/*/"), headers
    assert headers["capsule-protocol"] == "?1", headers
    proxy.answer(200)
    return proxy


async def assign():
    """The client asks, is answered by ID, pings; then everything is replaced, then withdrawn."""
    proxy = await tunnel()
    asked = await proxy.request()
    assert asked == [(1, "0.0.0.0/32"), (2, "::/128")], asked
    proxy.assign((1, f"{FIRST}/32"), (2, f"{FIRST_V6}/128"))
    proxy.advertise(("10.88.0.0", "10.88.0.255"), ("fd88::", "fd88::ffff"))
    say("assigned")
    packet = await proxy.pong(FIRST)
    assert str(packet.destination) == FAR and packet.hop_limit == 64, packet
    say("ponged")
    # The reply has to be there before the address goes.
    await asyncio.sleep(1)
    proxy.assign((0, f"{SECOND}/32"))
    proxy.advertise(("10.89.0.0", "10.89.0.255"))
    say("replaced")
    await proxy.pong(SECOND)
    await asyncio.sleep(1)
    proxy.assign()
    proxy.advertise()
    say("withdrawn")
    await proxy.until(lambda: proxy.closed is not None, "the end of the connection")


async def unprompted():
    """An assignment that answers no request is one, and ends the waiting."""
    proxy = await tunnel()
    await proxy.request()
    proxy.assign((0, f"{FIRST}/32"))
    proxy.advertise(("10.88.0.0", "10.88.0.255"))
    say("assigned")
    await proxy.pong(FIRST)
    say("ponged")
    await proxy.until(lambda: proxy.closed is not None, "the end of the connection")


async def refuse():
    """A client that is refused every address gives up."""
    proxy = await tunnel()
    asked = await proxy.request()
    proxy.assign(*((n, "0.0.0.0/32" if "." in prefix else "::/128") for n, prefix in asked))
    say("refused")
    await proxy.until(lambda: proxy.closed is not None, "the end of the connection")


async def silence():
    """A client that is never assigned anything gives up."""
    proxy = await tunnel()
    await proxy.request()
    await proxy.until(lambda: proxy.closed is not None, "the end of the connection", SILENCE)


async def foreign_packets():
    """What is not for the client's address does not get past it; what is from a router does."""
    proxy = await tunnel()
    await proxy.request()
    proxy.assign((1, f"{FIRST}/32"))
    proxy.advertise(("10.88.0.0", "10.88.0.255"))
    say("assigned")
    await proxy.pong(FIRST)
    for destination in ("10.99.0.9", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
        proxy.send(ip.udp(FAR, destination, b"foreign", (9, 4660)))
    proxy.send(b"")
    proxy.send(b"\x45")
    proxy.send(ip.udp(FAR, FIRST, b"own", (9, 4660))[:-1])
    # A router on the way is neither the proxy nor the target (RFC 9484 section 7.2.1).
    quoted = ip.udp(FIRST, FAR, b"too long")
    proxy.send(ip.icmp("192.0.2.254", FIRST, 3, 1, bytes(4) + quoted))
    proxy.send(ip.udp(FAR, FIRST, b"last", (9, 4660)))
    say("sent")
    await proxy.pong(FIRST)
    say("ponged")
    await proxy.until(lambda: proxy.closed is not None, "the end of the connection")


async def malformed(which):
    """A malformed capsule aborts the tunnel."""
    (data,) = [data for what, data in MALFORMED.items() if what == which]
    proxy = await tunnel()
    await proxy.request()
    proxy.assign((1, f"{FIRST}/32"))
    proxy.send_stream(bytes.fromhex(data))
    await proxy.until(lambda: proxy.reset is not None or proxy.closed is not None, which)
    assert proxy.reset == H3_MESSAGE_ERROR, (which, proxy.reset, proxy.closed)
    assert proxy.stopped == H3_MESSAGE_ERROR, (which, proxy.stopped)


CASES = (assign, unprompted, refuse, silence, foreign_packets)


def certificate():
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ip_proxy.py")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()), key


async def main(name, address):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=False, max_datagram_frame_size=65535)
    configuration.max_datagram_size = 1400
    configuration.certificate, configuration.private_key = certificate()
    Proxy.born = asyncio.Event()
    host, port = address.rsplit(":", 1)
    server = await serve(host, int(port), configuration=configuration, create_protocol=Proxy)
    say("listening")
    cases = [case for case in CASES if case.__name__ == name]
    run = cases[0]() if cases else malformed(name)
    try:
        await asyncio.wait_for(run, 4 * PATIENCE)
    finally:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
