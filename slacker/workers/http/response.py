"""A response in HTTP/1.1, parsed as its bytes arrive, wherever from: no I/O here."""

from __future__ import annotations

from typing import final

from httptools import HttpParserError, HttpResponseParser

__all__ = ["MAX_HEAD", "MAX_OTHER", "Response"]

MAX_HEAD = 64 << 10
"""Bytes of a response before its body; a few more are let pass."""

MAX_OTHER = 64 << 10
"""Bytes of the body of a response that is no 200; what comes after them is not waited for."""


@final
class Response:
    """What the parser has found of a response; between two exchanges it is complete.

    `status` is 0 until the head is here, `keeps` tells whether the connection may have another request, and `process`
    which of the server's processes has it, as the last response told. It and the parser refer to each other, until
    `parser` is taken away.
    """

    __slots__ = (
        "_delimited",
        "_head_size",
        "_max_body",
        "body",
        "complete",
        "content_type",
        "keeps",
        "parser",
        "process",
        "status",
    )

    def __init__(self) -> None:
        self.parser: HttpResponseParser | None = HttpResponseParser(self)
        self.complete = self.keeps = True
        self.process = ""

    def begin(self, max_body: int) -> None:
        """Expect another one, whose body may have so many bytes."""
        self._max_body = max_body
        self.status = 0
        self.body: bytes | bytearray = b""
        self.complete = False
        self.keeps = True
        self._head_size = 0

    def feed(self, data: bytes) -> None:
        """Parse what has arrived.

        Raises:
            HttpParserError, HttpParserUpgrade: it is no response, or too long a one, or there is more than one.
        """
        assert self.parser is not None
        self.parser.feed_data(data)
        if not self.status:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                raise HttpParserError(f"its head has more than {MAX_HEAD} bytes")
        elif self.status != 200 and len(self.body) > MAX_OTHER:
            self.complete, self.keeps = True, False
        elif len(self.body) > self._max_body:
            raise HttpParserError(f"its body has more than {self._max_body} bytes")

    def end(self) -> None:
        """Take note that no more will come: some servers mark the end of a body by nothing else."""
        self.complete = self.status > 0 and not self._delimited

    # --- called by the parser ---------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:  # a trailer
            return
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._delimited = True
        elif name == b"slacker-process":
            self.process = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status >= 200:  # before it there may be some that only inform
            self.status = status

    def on_body(self, data: bytes) -> None:
        if not self.body:
            self.body = data  # most have one piece, which is not copied
        elif isinstance(self.body, bytes):
            self.body = bytearray(self.body + data)
        else:
            self.body += data

    def on_message_begin(self) -> None:
        if self.complete:
            raise HttpParserError("another one follows")
        self.content_type = ""
        self._delimited = False

    def on_message_complete(self) -> None:
        assert self.parser is not None
        self.complete = self.status > 0
        self.keeps = self.parser.should_keep_alive()
