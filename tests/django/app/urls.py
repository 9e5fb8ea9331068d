from django.http import HttpRequest, JsonResponse
from django.urls import path

from slacker import Slacker
from slacker.workers import DjangoThreadWorker

from .models import Author

authors = Slacker(Author, DjangoThreadWorker()).objects


async def names(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"names": await authors.values_list("name", flat=True)})


urlpatterns = [path("names/", names)]
