"""Ways in which a file may be damaged, for the tests of all rooms that read files."""

#: Kind → what the file then holds; None: it is gone, "half": it was cut, "folder": a folder is in its place.
KINDS = {
    "missing": None,
    "empty": b"",
    "cut": "half",
    "a list": b"[]\n",
    "a mapping": b"{}\n",
    "null": b"null\n",
    "rubbish": bytes(range(256)),
    "zeros": b"\0\0\0\0",
    "a folder": "folder",
}


def damage(path, kind, whole=None):
    """Put a damaged file in the place of a whole one, whose bytes are ``whole``, or what is there now."""
    whole, content = path.read_bytes() if whole is None else whole, KINDS[kind]
    if path.is_dir():
        path.rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(whole[: 2 * len(whole) // 3] if content == "half" else content)
