from django.urls import include, path

urlpatterns = [path("slacker/", include("slacker.django_backend.urls"))]
