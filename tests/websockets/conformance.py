"""Plays cases of the Autobahn|Testsuite against a WebSocket server.

    conformance.py --suite DIRECTORY --to HOST:PORT [--tls CA.pem --name NAME] [GROUP ...]

A group is the beginning of a case's number: `5`, `9.1`, `7.1.6`. Writes one line of
JSON for each case: how the suite judges it, and everything that the server sent. Two
ways to one server are the same when their lines are: masks are drawn by the case's
number, so that a case sends the same bytes each time.

The suite's own client is Python 2 (see `cases.py`); the class `Client` here is what
its cases know as `self.p`.
"""

import argparse
import asyncio
import collections
import hashlib
import json
import random
import ssl
import struct
import zlib
from types import SimpleNamespace

import cases
from cases import STATE_CLOSED, STATE_CLOSING, STATE_OPEN, octets

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# RFC 6455 section 1.3's own.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TAIL = b"\x00\x00\xff\xff"
# A thousand round trips show no more than these do.
MESSAGES = 3
# How long all of a case may take, and how many cases are played at once.
PATIENCE, AT_ONCE = 60, 24
# Cases give a server half a second or one; a busy machine needs more.
KILL_LATER, CLOSE_LATER = 10, 2
# What is not the same twice.
VARYING = ("date",)


class Client:
    """A client's side of one connection."""

    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007

    def __init__(self, number, kind):
        self.factory = SimpleNamespace(isServer=False)
        self.state = None
        self.connectionWasOpen = False
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode = self.localCloseReason = None
        self.autoFragmentSize = 0
        self.txFrameStats = collections.Counter()
        self.trafficStats = None
        self.perMessageCompressionOffers = []
        self._perMessageCompress = None
        self.number = number
        self.random = random.Random(number)
        self.transcript = bytearray()
        self.timers = set()
        self.outgoing = asyncio.Queue()
        self.message = bytearray()
        self.opcode = None
        self.case = kind(self)

    # What cases call.

    def sendFrame(self, opcode, payload=b"", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        payload = octets(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // max(len(payload), 1) + 1))[:payload_len] if payload else b""
        self.txFrameStats[opcode] += 1
        self.write(self.head(opcode, len(payload), fin, rsv) + self.masked(payload), chopsize)

    def sendMessage(self, payload, isBinary=False, fragmentSize=None):
        payload, rsv = octets(payload), 0
        if self._perMessageCompress:
            payload, rsv = self._perMessageCompress.compress(payload), 4
        size = fragmentSize or self.autoFragmentSize or max(len(payload), 1)
        parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for index, part in enumerate(parts):
            first, last = index == 0, index == len(parts) - 1
            opcode = (BINARY if isBinary else TEXT) if first else CONTINUATION
            self.sendFrame(opcode, part, fin=last, rsv=rsv if first else 0)

    def beginMessage(self):
        pass

    def beginMessageFrame(self, length):
        self.write(self.head(TEXT, length, True, 0))
        self.mask_at = 0

    def sendMessageFrameData(self, payload):
        self.write(xor(octets(payload), self.mask, self.mask_at))
        self.mask_at += len(payload)

    def endMessage(self):
        pass

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        reason = octets(reasonUtf8 or b"")
        self.localCloseReason = reasonUtf8
        self.closedByMe = not isReply
        self.state = STATE_CLOSING
        self.sendFrame(CLOSE, (struct.pack("!H", code) if code is not None else b"") + reason)

    def sendClose(self, code=None, reason=None):
        if self.state == STATE_OPEN:
            self.sendCloseFrame(code, reason.encode() if reason is not None else None)

    def continueLater(self, delay, work, tag=None):
        self.later(delay, work)

    def closeAfter(self, delay):
        self.later(CLOSE_LATER * delay, self.sendClose)

    def killAfter(self, delay):
        self.later(KILL_LATER * delay, self.kill)

    def enableWirelog(self, enable):
        pass

    # How it is done.

    def kill(self):
        self.failedByMe = self.droppedByMe = True
        self.writer.transport.abort()

    def later(self, delay, work):
        async def wait():
            await asyncio.sleep(delay)
            if self.state != STATE_CLOSED:
                work()

        task = asyncio.ensure_future(wait())
        self.timers.add(task)
        task.add_done_callback(self.timers.discard)

    def head(self, opcode, length, fin, rsv):
        self.mask = self.random.randbytes(4)
        first = (0x80 if fin else 0) | rsv << 4 | opcode
        if length < 126:
            size = struct.pack("!BB", first, 0x80 | length)
        elif length < 65536:
            size = struct.pack("!BBH", first, 0x80 | 126, length)
        else:
            size = struct.pack("!BBQ", first, 0x80 | 127, length)
        return size + self.mask

    def masked(self, payload):
        return xor(payload, self.mask, 0)

    def write(self, data, chopsize=None):
        size = chopsize or max(len(data), 1)
        for at in range(0, len(data), size):
            self.outgoing.put_nowait(data[at : at + size])

    async def send_all(self):
        while True:
            self.writer.write(await self.outgoing.get())
            await self.writer.drain()
            # Each chop is a segment of its own.
            await asyncio.sleep(0)

    async def play(self, connect):
        self.reader, self.writer = await connect()
        sending = None
        try:
            self.answer = await self.handshake()
            self.state, self.connectionWasOpen = STATE_OPEN, True
            sending = asyncio.ensure_future(self.send_all())
            self.case.onOpen()
            await self.receive_all()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        self.state = STATE_CLOSED
        for task in [*self.timers, *[sending] * (sending is not None)]:
            task.cancel()
        self.writer.transport.abort()
        self.case.onConnectionLost(self.failedByMe)

    async def handshake(self):
        offers = ", ".join(offer.header() for offer in self.perMessageCompressionOffers)
        lines = [
            "GET /echo?a=1&b=%2F HTTP/1.1",
            "Host: play.localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Protocol: chat.v2, chat.v1",
            f"X-Case: {self.number}",
            *[f"Sec-WebSocket-Extensions: {offers}"] * bool(offers),
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        status, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        answer = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if not status.startswith("HTTP/1.1 101 ") or answer["sec-websocket-accept"] != ACCEPT:
            raise ConnectionError(status)
        if "sec-websocket-extensions" in answer:
            self._perMessageCompress = Deflate(answer["sec-websocket-extensions"])
        return {"status": status, **{name: value for name, value in answer.items() if name not in VARYING}}

    async def receive_all(self):
        while True:
            first, length = await self.read(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.read(8))
            self.receive(first >> 4 & 7, first & 15, bool(first & 0x80), await self.read(length))

    async def read(self, count):
        try:
            data = await self.reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            self.transcript += error.partial
            raise
        self.transcript += data
        return data

    def receive(self, rsv, opcode, fin, payload):
        if opcode == PING:
            self.sendFrame(PONG, payload)
            self.case.onPing(payload)
        elif opcode == PONG:
            self.case.onPong(payload)
        elif opcode == CLOSE:
            self.remoteCloseCode = struct.unpack("!H", payload[:2])[0] if payload else None
            self.wasClean = True
            if self.state == STATE_OPEN:
                self.sendCloseFrame(self.remoteCloseCode, isReply=True)
            # The server ends the connection (RFC 6455 section 7.1.1).
            self.killAfter(1)
        elif self.state == STATE_OPEN:
            self.gather(rsv, opcode, fin, payload)

    def gather(self, rsv, opcode, fin, payload):
        if opcode != CONTINUATION:
            self.opcode, self.compressed, self.message = opcode, rsv == 4, bytearray()
        self.message += payload
        if fin:
            message = bytes(self.message)
            if self.compressed:
                message = self._perMessageCompress.decompress(message)
            self.case.onMessage(message, self.opcode == BINARY)


class Deflate:
    """permessage-deflate as the server has agreed to it (RFC 7692)."""

    def __init__(self, agreed):
        parameters = dict((part.strip() + "=").split("=")[:2] for part in agreed.split(";")[1:])
        self.keeps = {side: f"{side}_no_context_takeover" not in parameters for side in ("client", "server")}
        self.bits = {side: int(parameters.get(f"{side}_max_window_bits") or 15) for side in ("client", "server")}
        self.deflating = self.inflating = None

    def compress(self, message):
        if not (self.deflating and self.keeps["client"]):
            self.deflating = zlib.compressobj(wbits=-self.bits["client"])
        data = self.deflating.compress(message) + self.deflating.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(TAIL)

    def decompress(self, data):
        if not (self.inflating and self.keeps["server"]):
            self.inflating = zlib.decompressobj(wbits=-self.bits["server"])
        return self.inflating.decompress(data + TAIL)


def xor(data, mask, at):
    """`data` masked from its octet `at` on (RFC 6455 section 5.3)."""
    key = (mask[at % 4 :] + mask * (len(data) // 4 + 1))[: len(data)]
    both = int.from_bytes(data, "big") ^ int.from_bytes(key, "big")
    return both.to_bytes(len(data), "big")


async def played(number, kind, connect, turn):
    """What came of a case, as a line."""
    if hasattr(kind, "COUNT"):
        kind.COUNT = min(kind.COUNT, MESSAGES)
    async with turn:
        client = Client(number, kind)
        await asyncio.wait_for(client.play(connect), PATIENCE)
    sent = bytes(client.transcript)
    return {
        "case": number,
        "behavior": client.case.behavior,
        "close": client.case.behaviorClose,
        "code": client.remoteCloseCode,
        "why": f"{client.case.result} {client.case.resultClose}",
        "answer": getattr(client, "answer", None),
        "octets": len(sent),
        "begin": sent[:64].hex(),
        "sha256": hashlib.sha256(sent).hexdigest(),
    }


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--tls")
    parser.add_argument("--name")
    parser.add_argument("groups", nargs="*")
    args = parser.parse_args()
    host, _, port = args.to.rpartition(":")
    context = ssl.create_default_context(cafile=args.tls) if args.tls else None

    async def connect():
        return await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname=args.name if context else None, limit=1 << 20
        )

    def wanted(number):
        return not args.groups or any(f"{number}.".startswith(f"{group}.") for group in args.groups)

    turn = asyncio.Semaphore(AT_ONCE)
    chosen = {number: kind for number, kind in cases.load(args.suite).items() if wanted(number)}
    playing = [played(number, kind, connect, turn) for number, kind in chosen.items()]
    for line in asyncio.as_completed(playing):
        print(json.dumps(await line), flush=True)


asyncio.run(main())
