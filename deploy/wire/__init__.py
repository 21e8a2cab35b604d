"""What crosses SSH, used by both sides: names, manifest, framing, messages, states. Standard library only, no I/O.

Runs on hosts with Python 3.8 and newer; imports nothing but the standard library and itself.
"""
