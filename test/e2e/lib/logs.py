"""Lines of weir's log, of either form, as the same dicts."""
import contextlib
import json
import re
from pathlib import Path

_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[!-~]+)'
_LINE = re.compile(rf"(\S+Z) (error|warn|info|debug) ([^=\"]*?)((?: \w+={_VALUE})*)")
_FIELD = re.compile(rf" (\w+)=({_VALUE})")
_ESCAPE = re.compile(rb'\\(?:x([0-9a-f]{2})|([nt"\\]))')
_SHORT = {b"n": b"\n", b"t": b"\t", b'"': b'"', b"\\": b"\\"}


def _unquote(text):
    """The bytes that were logged; those that are no UTF-8 as Python keeps them."""
    def byte(match):
        return bytes.fromhex(match[1].decode()) if match[1] else _SHORT[match[2]]
    return _ESCAPE.sub(byte, text[1:-1].encode()).decode(errors="surrogateescape")


def _value(text):
    if text.startswith('"'):
        return _unquote(text)
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _of_text(line):
    match = _LINE.fullmatch(line)
    assert match, f"no line of text: {line!r}"
    fields = {key: _value(value) for key, value in _FIELD.findall(match[4])}
    return {"time": match[1], "level": match[2], "event": match[3], **fields}


def parse(data, form):
    """All whole lines of a log's bytes."""
    lines = data.decode().split("\n")[:-1]
    return [json.loads(line) if form == "json" else _of_text(line) for line in lines]


def read(path, form):
    return parse(Path(path).read_bytes(), form)


def sessions(lines):
    return [line for line in lines if line["event"] == "session"]


def dropped(lines):
    """How many lines the log itself says it lacks."""
    return sum(line["lines"] for line in lines if line["event"] == "log lines dropped")
