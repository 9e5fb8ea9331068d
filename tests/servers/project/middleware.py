"""What projects put before their views, the hook's among them."""

from django.http import HttpResponseRedirect


def redirect_to_login(get_response):
    return lambda request: HttpResponseRedirect("/login/")


def read_body(get_response):
    def middleware(request):
        assert request.body
        return get_response(request)

    return middleware


def consume_body(get_response):
    def middleware(request):
        assert request.read()
        return get_response(request)

    return middleware


def fail(get_response):
    def middleware(request):
        raise RuntimeError("not in the hook")

    return middleware
