"""Include this in the project's URLs: ``path("slacker/", include("slacker.django_backend.urls"))``."""

from django.urls import path

from .views import execute

urlpatterns = [path("execute/", execute, name="slacker-execute")]
