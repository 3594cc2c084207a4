"""Waiting: for a condition with a deadline, never for a span of time."""
import os
import time

# Sanitized builds are slower: scripts/test sets this for them.
SLOW = float(os.environ.get("WEIR_TEST_SLOW", "1"))

POLL_SECONDS = 0.02


def eventually(condition, timeout=5.0, what=None):
    """Calls condition until it returns something true, and returns that.

    An AssertionError or OSError raised by it counts as "not yet"; the last one tells what was
    wrong when the time is up.
    """
    deadline = time.monotonic() + timeout * SLOW
    while True:
        last = None
        try:
            result = condition()
            if result:
                return result
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {timeout * SLOW:g} s: {name}") from last
        time.sleep(POLL_SECONDS)
