"""A configuration from Python structures: dict is a group, list a list, the rest a value.

A list of strings is an array, as networks and words are.
"""


def render(value):
    """One value as libconfig writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{ " + " ".join(f"{key} = {render(v)};" for key, v in value.items()) + " }"
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return "[" + ", ".join(render(v) for v in value) + "]"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(render(v) for v in value) + ")"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def render_file(sections):
    """A whole file; `sections` maps weir, defaults, pools, listeners to what stands in them."""
    return "".join(f"{key} = {render(value)};\n" for key, value in sections.items())
