"""Lays the calls of a client (lib/load.py) beside weir's access lines of the same sessions."""
import collections
import datetime

from lib.wait import eventually


def time_of(line):
    """When a line of weir's log was written: seconds since 1970, rounded down to a millisecond."""
    return datetime.datetime.fromisoformat(line["time"]).timestamp()


def began(line):
    """When a session was accepted, at most a millisecond too early."""
    return time_of(line) - line["duration_ms"] / 1000


def when(weir, event, server, nth=1):
    """When weir logged for the nth time that the server "is up" or "is down". The line is written a
    moment after."""
    def times():
        return [time_of(line) for line in weir.log_lines()
                if line["event"] == f"server {event}" and line["server"] == server]
    return eventually(lambda: times()[nth - 1:], 5, f"{server} {event}")[0]


def line_of(weir, client):
    """The access line of the session of a client's address, once it is written."""
    def lines():
        return [line for line in weir.access_lines() if line["client"] == client]
    return eventually(lines, 5, f"the access line of {client}")[-1]


def by_client(rows):
    """Counter of client addresses, of calls or of access lines."""
    return collections.Counter(
        row["client"] if isinstance(row, dict) else row.client for row in rows)


def check_accounts(weir, calls):
    """Each call that failed has its access line, and each line that says so its call.

    A server that resets a connection resets the client's; one that dies with nothing left to read
    ends it with FIN, and so does weir. Returns the failed calls.
    """
    assert weir.admin("status")["log"]["dropped"] == 0
    lines = weir.wait_access(len(calls))
    whole = max(line["bytes_out"] for line in lines)
    failed = [call for call in calls if not call.ok]
    reset = [call for call in failed if call.outcome == "ECONNRESET"]
    short = [call for call in failed if call.outcome == "short"]
    assert len(reset) + len(short) == len(failed), collections.Counter(c.outcome for c in failed)
    assert by_client(reset) == by_client(line for line in lines if line["end"] == "server-reset")
    assert by_client(short) == by_client(
        line for line in lines if line["end"] == "done" and line["bytes_out"] < whole)
    return failed
