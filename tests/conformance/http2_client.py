"""A gRPC client made of bare HTTP/2 frames, which says what well-behaved ones do not. One thread."""
import selectors
import socket
import struct
import time

import hpack
from hpack.hpack import encode_integer
from hyperframe.frame import (ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame,
                              SettingsFrame, WindowUpdateFrame)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW = 65535
FRAME_BYTES = 16384  # the most that a peer must take
GENERATE = "/nibble.v1.Inference/Generate"


def message(payload, declared=None, compressed=0):
    """A message as gRPC frames it; `declared` is the length that it claims, where that is not the true one."""
    return struct.pack(">BI", compressed, len(payload) if declared is None else declared) + payload


def fields(path=GENERATE, **changes):
    """The header fields of a call. `te="x"` replaces one, None removes it; `_path` is `:path`, and `a_b` is `a-b`."""
    values = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
              "content-type": "application/grpc"}
    for name, value in changes.items():
        values[":" + name[1:] if name.startswith("_") else name.replace("_", "-")] = value
    return [(name, value) for name, value in values.items() if value is not None]


def literal(name, value):
    """A header field that HPACK does not index, so that each costs what it says."""
    return b"\0" + b"".join(bytes(encode_integer(len(text), 7)) + text for text in (name, value))


class Closed(Exception):
    """The peer takes no more."""


class Connection:
    """`goaway` is the code of the peer's last GOAWAY, `closed` whether it hung up; both become known in read()."""

    def __init__(self, address, tls=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.settimeout(10)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer, self.goaway, self.closed = b"", None, False
        self.answers, self.streams = {}, 0
        self.window, self.windows, self.initial_window = INITIAL_WINDOW, {}, INITIAL_WINDOW
        self.send(PREFACE, SettingsFrame(0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts):
        """Frames or bytes, as they are. Raises Closed."""
        data = b"".join(part.serialize() if isinstance(part, Frame) else part for part in parts)
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError, OSError):
            raise Closed from None

    def open(self, header_fields=None, flags=("END_HEADERS",)):
        """The HEADERS frame of a new stream, not sent yet."""
        stream = 2 * self.streams + 1
        self.streams += 1
        self.windows[stream] = self.initial_window
        block = self.encoder.encode(header_fields or fields(), huffman=False)
        return HeadersFrame(stream, data=block, flags=flags)

    def call(self, body, **changes):
        """Generate with this body; its status as answer() tells it."""
        headers = self.open(fields(**changes))
        self.send(headers)
        self.send_body(headers.stream_id, body)
        return self.answer(headers.stream_id)

    def send_block(self, block):
        """A new stream whose header block, however long, fills frames; its number."""
        headers = self.open(flags=())
        block = headers.data + block
        pieces = [block[i:i + FRAME_BYTES] for i in range(0, len(block), FRAME_BYTES)]
        frames = [HeadersFrame(headers.stream_id, data=pieces[0])]
        frames += [ContinuationFrame(headers.stream_id, data=piece) for piece in pieces[1:]]
        frames[-1].flags.add("END_HEADERS")
        for frame in frames:
            self.send(frame)
        return headers.stream_id

    def send_body(self, stream, body, end=True):
        """As much of it as the peer's windows allow until it answers; the bytes sent."""
        sent = 0
        while sent < len(body) or (end and not body):
            self.read(10, lambda: self.room(stream) > 0 or self.ended(stream))
            size = min(self.room(stream), FRAME_BYTES, len(body) - sent)
            if self.ended(stream) or self.room(stream) <= 0:
                break
            last = end and sent + size == len(body)
            self.send(DataFrame(stream, data=body[sent:sent + size], flags=["END_STREAM"] if last else []))
            sent, self.window = sent + size, self.window - size
            self.windows[stream] -= size
            if last:
                break
            self.read(0)
        return sent

    def room(self, stream):
        return min(self.window, self.windows[stream])

    def answer(self, stream, seconds=10):
        """The grpc-status, as text; else "reset CODE", "goaway CODE", "closed" or "silence"."""
        self.read(seconds, lambda: self.ended(stream))
        return self.ended(stream) or "silence"

    def ended(self, stream):
        got = self.answers.get(stream, {})
        if "grpc-status" in got:
            return got["grpc-status"]
        if "reset" in got:
            return f"reset {got['reset']}"
        if self.goaway is not None:
            return f"goaway {self.goaway}"
        return "closed" if self.closed else None

    def read(self, seconds, until=lambda: False):
        """Takes what comes, answering settings and pings, until `until`, the end of the connection or of the time."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while not until() and not self.closed:
                pending = getattr(self.socket, "pending", lambda: 0)()
                if not pending and not selector.select(max(0, end - time.monotonic())):
                    return
                self.receive()

    def receive(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        self.closed = not data
        self.buffer += data
        while len(self.buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self.buffer[9:9 + length]))
            self.buffer = self.buffer[9 + length:]
            self.handle(frame)

    def handle(self, frame):
        if isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        elif isinstance(frame, WindowUpdateFrame):
            if frame.stream_id:
                self.windows[frame.stream_id] = self.windows.get(frame.stream_id, 0) + frame.window_increment
            else:
                self.window += frame.window_increment
        elif isinstance(frame, RstStreamFrame):
            self.answers.setdefault(frame.stream_id, {}).setdefault("reset", frame.error_code)
        elif isinstance(frame, HeadersFrame):
            got = self.answers.setdefault(frame.stream_id, {})
            got.update((bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                       for name, value in self.decoder.decode(frame.data, raw=True))
        elif isinstance(frame, (SettingsFrame, PingFrame)) and "ACK" not in frame.flags:
            self.acknowledge(frame)

    def acknowledge(self, frame):
        if isinstance(frame, SettingsFrame):
            window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self.initial_window)
            self.windows = {stream: room + window - self.initial_window for stream, room in self.windows.items()}
            self.initial_window = window
            answer = SettingsFrame(0, flags=["ACK"])
        else:
            answer = PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"])
        try:
            self.send(answer)
        except Closed:
            pass  # what it still said is read all the same
