"""The counters of the whole process, against traffic whose numbers are known."""
from lib.peers import echo, read_exactly
from lib.servers import answer_of


def test_counters_add_up(weir, responders):
    server = responders(1)[0]
    w = weir([server.address])
    before = w.admin("show counters")
    for _ in range(10):
        assert answer_of(w.address) == (200, "a\n")
    lines = w.wait_access(10)
    after = w.admin("show counters")

    grown = {name: after[name] - before[name] for name in after}
    assert grown["sessions"] == grown["sessions_ended"] == 10
    assert grown["bytes_in"] == sum(line["bytes_in"] for line in lines)
    assert grown["bytes_out"] == sum(line["bytes_out"] for line in lines)
    assert all(grown[name] == 0 for name in ("retries", "connect_failures", "bytes_lost", "queued"))


def test_a_loop_at_rest_does_not_turn(weir, tcp_server):
    """Sessions without traffic cost a turn now and then, for the timers, and no more."""
    w = weir([tcp_server(echo).address])
    clients = [w.connect() for _ in range(20)]
    for client in clients:
        client.sendall(b"x")
        assert read_exactly(client, 1) == b"x"
    active = w.admin("show counters")["loop_turns"]
    assert active > 0
    # 200 questions to the control thread take a while, and are none of the worker's business.
    with w.admin_session() as ask:
        for _ in range(200):
            turns = ask("show counters")["loop_turns"]
    assert turns - active < 100
    for client in clients:
        client.close()
    w.wait_sessions(0)
