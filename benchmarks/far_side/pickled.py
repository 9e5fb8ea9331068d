"""The 2011 way: recorded steps come pickled in a POST, the result goes back pickled, and nothing is signed.

Whoever reaches such a view can run any code in the server. That is why slacker does it no longer, and why the path
is a secret of each run here.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

__all__ = ["application", "urlpatterns"]


def execute(request: Any) -> Any:
    """Replay the steps: a string is an attribute, a slice an index, a pair the arguments of a call."""
    result, steps = pickle.loads(request.body)
    for step in steps:
        if isinstance(step, str):
            result = getattr(result, step)
        elif isinstance(step, slice):
            result = result[step]
        else:
            positional, named = step
            result = result(*positional, **named)
    return HttpResponse(pickle.dumps(result), content_type="application/octet-stream")


urlpatterns = [path(f"{os.environ['BENCHMARKS_SECRET']}/", execute)]
application = get_wsgi_application()
