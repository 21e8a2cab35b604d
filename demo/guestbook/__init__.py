"""A guestbook: one page, one table, and an honest answer to the question which release is running."""

VERSION = "1"
