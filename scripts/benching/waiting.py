"""Waiting for what a process must do first."""
import sys
import time

TIMEOUT = 10


def until(condition, what):
    """Until it returns something true; an OSError means not yet."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"bench: not within {TIMEOUT} s: {what}")
        time.sleep(0.02)
