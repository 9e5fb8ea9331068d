"""The hook as a WSGI application: for any WSGI server, without the middleware of a framework."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .hook import Hook, Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application", "request_of"]


def application(hook: Hook) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Return `hook` as a WSGI application."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reply = hook.answer(request_of(environ, environ["wsgi.input"].read))
        start_response(f"{reply.status} {http.HTTPStatus(reply.status).phrase}", reply.headers)
        return reply.body

    return answer


def request_of(environ: Mapping[str, Any], read: Callable[[int], bytes], *, streams: bool = True) -> Request:
    """Return what the hook needs of a WSGI request; nothing of the body is read yet."""
    return Request(
        method=environ["REQUEST_METHOD"],
        query=environ.get("QUERY_STRING", ""),
        content_type=environ.get("CONTENT_TYPE", ""),
        content_length=environ.get("CONTENT_LENGTH", ""),
        encodings=environ.get("HTTP_TRANSFER_ENCODING", "") + environ.get("HTTP_CONTENT_ENCODING", ""),
        signature=environ.get("HTTP_SLACKER_SIGNATURE", ""),
        client=environ.get("REMOTE_ADDR", ""),
        read=read,
        streams=streams,
    )
