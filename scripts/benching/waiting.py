"""Waiting for what a process must do first."""
import sys
import time

TIMEOUT = 10


def until(condition, what, process):
    """Until it returns something true; an OSError means not yet. The process must not end meanwhile."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if process.ended():
            sys.exit(f"bench: {process} ended at its start: is it built, is its port free?")
        if time.monotonic() > deadline:
            sys.exit(f"bench: not within {TIMEOUT} s: {what}")
        time.sleep(0.02)
