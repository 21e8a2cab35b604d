"""Where everything is."""

from django.urls import path

from . import views

urlpatterns = [path("", views.page), path("healthz", views.healthz)]
