"""The one table."""

from django.db import models


class Note(models.Model):
    """What somebody wrote, under which version of the program."""

    text = models.CharField(max_length=200)
    version = models.CharField(max_length=20)
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.text
