"""The hook as a bare WSGI application, without the project's middleware, which costs more than a look-up.

``application`` is for any WSGI server, and needs SLACKER_KEY. ``loopback_application`` is what ``manage.py runslacker``
serves on a loopback address, where a key derived from SECRET_KEY will do.
"""

from __future__ import annotations

import django

from ..wsgi import application as wsgi_application
from .remote import hook

__all__ = ["application", "loopback_application"]

django.setup(set_prefix=False)

application = wsgi_application(hook(unreachable=lambda: False, own_thread=True))
loopback_application = wsgi_application(hook(unreachable=lambda: True, own_thread=True))
