"""A client of tunnels on aioquic, written from RFC 9298, RFC 9484, RFC 9297 and RFC 9220 alone.

It knows nothing of the server it is used against: what one of them misreads, the other shows.
"""

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import quote

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError, encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    StopSendingReceived,
    StreamReset,
)

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 20

# The capsule type of RFC 9297 section 3.5, and one that is reserved (section 5.4).
DATAGRAM = 0x00
RESERVED = 0x17

# The only context ID that RFC 9298 section 5 and RFC 9484 section 5 define: a bare UDP payload, or a
# whole IP packet.
PAYLOAD = 0


def capsule(kind, value):
    """The bytes of one capsule (RFC 9297 section 3.2)."""
    return encode_uint_var(kind) + encode_uint_var(len(value)) + value


def capsules(data):
    """Splits `data` into whole capsules, and what is left of it."""
    found = []
    while True:
        buffer = Buffer(data=data)
        try:
            kind = buffer.pull_uint_var()
            value = buffer.pull_bytes(buffer.pull_uint_var())
        except BufferReadError:
            return found, data
        found.append((kind, value))
        data = data[buffer.tell() :]


class Http(H3Connection):
    """HTTP/3 that announces datagrams (RFC 9297 section 2.1.1), or does not."""

    datagrams = True

    def _get_local_settings(self):
        settings = super()._get_local_settings()
        # Only a server announces extended CONNECT (RFC 9220 section 3).
        settings.pop(Setting.ENABLE_CONNECT_PROTOCOL, None)
        if self.datagrams:
            settings[Setting.H3_DATAGRAM] = 1
        return settings


class HttpWithoutDatagrams(Http):
    datagrams = False


@dataclass
class Stream:
    """What has come on one request stream."""

    headers: dict = field(default_factory=dict)
    data: bytes = b""
    datagrams: list = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    stopped: int | None = None


class Client(QuicConnectionProtocol):
    """One connection to a proxy."""

    http_class = Http

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = self.http_class(self._quic)
        self.streams = defaultdict(Stream)
        self.closed = None
        self._news = asyncio.Condition()

    def quic_event_received(self, event):
        match event:
            case StreamReset():
                self.streams[event.stream_id].reset = event.error_code
            case StopSendingReceived():
                self.streams[event.stream_id].stopped = event.error_code
            case ConnectionTerminated():
                self.closed = event.error_code
        for news in self.http.handle_event(event):
            stream = self.streams[news.stream_id]
            match news:
                case HeadersReceived():
                    stream.headers = {n.decode(): v.decode() for n, v in news.headers}
                    stream.ended |= news.stream_ended
                case DataReceived():
                    stream.data += news.data
                    stream.ended |= news.stream_ended
                case DatagramReceived():
                    stream.datagrams.append(news.data)
        asyncio.ensure_future(self._tell())

    async def _tell(self):
        async with self._news:
            self._news.notify_all()

    async def until(self, condition, what):
        """Waits until `condition()` holds."""
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(condition), PATIENCE)
            except TimeoutError:
                raise AssertionError(f"waited in vain for {what}: {dict(self.streams)}")

    async def settings(self):
        """The server's settings, which decide about tunnels (RFC 9220 section 3)."""
        await self.until(lambda: self.http.received_settings, "SETTINGS")
        return self.http.received_settings

    async def open(self, host, port, authority, protocol="connect-udp"):
        """Asks for a UDP tunnel to `host` and `port` and waits for the answer."""
        path = f"/.well-known/masque/udp/{quote(host, safe='')}/{port}/"
        return await self.tunnel(path, authority, protocol)

    async def tunnel(self, path, authority, protocol):
        """Asks for a tunnel and waits for the answer."""
        stream_id = self._quic.get_next_available_stream_id()
        self.http.send_headers(
            stream_id,
            [
                (b":method", b"CONNECT"),
                (b":protocol", protocol.encode()),
                (b":scheme", b"https"),
                (b":authority", authority.encode()),
                (b":path", path.encode()),
                (b"capsule-protocol", b"?1"),
            ],
        )
        self.transmit()
        stream = self.streams[stream_id]
        await self.until(lambda: stream.headers, "a response")
        return Tunnel(self, stream_id, stream)


class ClientWithoutDatagrams(Client):
    http_class = HttpWithoutDatagrams


class Tunnel:
    """A tunnel, or the refusal of one."""

    def __init__(self, client, stream_id, stream):
        self.client = client
        self.stream_id = stream_id
        self.stream = stream

    @property
    def status(self):
        return int(self.stream.headers[":status"])

    @property
    def proxy_status(self):
        return self.stream.headers.get("proxy-status", "")

    def send(self, payload, context=PAYLOAD):
        """Sends one payload in a QUIC DATAGRAM frame."""
        data = encode_uint_var(context) + payload
        self.client.http.send_datagram(self.stream_id, data)
        self.client.transmit()

    def send_stream(self, data, end=False):
        """Sends bytes of the capsule protocol."""
        self.client.http.send_data(self.stream_id, data, end)
        self.client.transmit()

    async def receive(self):
        """The payload of the next QUIC DATAGRAM frame."""
        datagrams = self.stream.datagrams
        await self.client.until(lambda: datagrams, "a datagram")
        return self._payload(datagrams.pop(0))

    async def receive_capsule(self):
        """The payload of the next DATAGRAM capsule."""
        while True:
            await self.client.until(lambda: capsules(self.stream.data)[0], "a capsule")
            ((kind, value), *_), _ = capsules(self.stream.data)
            self.stream.data = self.stream.data[len(capsule(kind, value)) :]
            if kind == DATAGRAM:
                return self._payload(value)

    @staticmethod
    def _payload(data):
        buffer = Buffer(data=data)
        context = buffer.pull_uint_var()
        assert context == PAYLOAD, f"context ID {context}"
        return data[buffer.tell() :]


@contextlib.asynccontextmanager
async def proxy(host, port, ca, client=Client):
    """A connection to the proxy at `host` and `port`, whose certificate `ca` has signed."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, idle_timeout=PATIENCE)
    if client.http_class.datagrams:
        configuration.max_datagram_frame_size = 65535
    # Large enough for 1200 bytes of UDP payload with all that goes around it.
    configuration.max_datagram_size = 1400
    configuration.load_verify_locations(ca)
    async with connect(host, port, configuration=configuration, create_protocol=client) as connected:
        yield connected
