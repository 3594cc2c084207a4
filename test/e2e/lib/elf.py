"""What a program's file says of its hardening, by readelf(1)."""
import re
import subprocess


def _readelf(*words):
    return subprocess.run(["readelf", "-W", *map(str, words)], capture_output=True, text=True,
                          check=True).stdout


def hardening(path):
    """{name: is it there}. fortify: of the C library's functions some are the checking ones, which
    a program shows only where it calls one that the compiler could not see through."""
    header, segments, dynamic, symbols = (
        _readelf(option, path) for option in ("-h", "-l", "-d", "--dyn-syms"))
    return {
        "PIE": "DYN (Position-Independent Executable" in header,
        "RELRO": "GNU_RELRO" in segments,
        "BIND_NOW": "BIND_NOW" in dynamic,
        "no executable stack": bool(re.search(r"GNU_STACK.* RW +0x", segments)),
        "stack protector": "__stack_chk_fail" in symbols,
        "fortify": bool(re.search(r"__\w+_chk@", symbols)),
    }
