"""The table of rows: number to (title, function, the balancers that it runs through)."""

ROWS = {}


def row(number, title, balancers):
    """Registers a generator function of a row: it takes a balancer's class and yields pairs of
    (case, what that balancer did), in the same order for each."""
    def register(function):
        ROWS[number] = (title, function, balancers)
        return function
    return register
