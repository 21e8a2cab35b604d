"""The page, and the health check that says which release answers."""

import os
import re
import sys

import markupsafe
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render

from . import VERSION
from .models import Note
from .settings import BASE_DIR

MARKUPSAFE = "compiled" if "markupsafe._speedups" in sys.modules else "pure"


def release() -> str:
    """The release this process runs from: ROOT/releases/ID/src."""
    return BASE_DIR.parent.name if BASE_DIR.parent.parent.name == "releases" else "not deployed"


def page(request: HttpRequest) -> HttpResponse:
    """Show the newest notes; take a new one."""
    if request.method == "POST":
        text = request.POST.get("text", "").strip()[:200]
        if text:
            Note.objects.create(text=text, version=VERSION)
        return redirect("/")
    notes = [(linked(note.text), note.version) for note in Note.objects.all()[:20]]
    facts = {"notes": notes, "version": VERSION, "release": release(), "markupsafe": MARKUPSAFE}
    return render(request, "guestbook/page.html", facts)


def linked(text: str) -> markupsafe.Markup:
    """Escape a note and make its addresses clickable."""
    parts = re.split(r"(https?://[^\s<>\"']+)", text)
    link = markupsafe.Markup('<a href="{0}">{0}</a>')
    return markupsafe.Markup("").join(link.format(part) if at % 2 else part for at, part in enumerate(parts))


def healthz(_request: HttpRequest) -> JsonResponse:
    """Answer 200 only when the database answers too."""
    Note.objects.exists()
    return JsonResponse({"version": VERSION, "release": release(), "pid": os.getpid(), "markupsafe": MARKUPSAFE})
