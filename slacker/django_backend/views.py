"""The hook as a Django view, for `slacker.django_backend.urls`."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from ..wsgi import request_of
from .remote import hook

__all__ = ["execute"]

# Connections are left to Django's own request_finished here.
_hook = hook(unreachable=lambda: bool(settings.DEBUG), own_thread=False)


@csrf_exempt
@login_not_required
@never_cache
@non_atomic_requests
def execute(request: HttpRequest) -> HttpResponseBase:
    """Answer a signed request, see `slacker.hook.Hook.answer`; under ASGI with a reply that is whole, and no stream."""
    is_whole = isinstance(request, ASGIRequest)
    reply = _hook.answer(request_of(request.META, request.read, streams=not is_whole))
    headers = dict(reply.headers)
    if isinstance(reply.body, list) or is_whole:
        return HttpResponse(b"".join(reply.body), status=reply.status, headers=headers)
    return StreamingHttpResponse(reply.body, status=reply.status, headers=headers)
