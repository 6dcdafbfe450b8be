

def machine():
    """What a program must be built for to run here: system, processor, and the C library on Linux."""
    system, processor = platform.system(), platform.machine().lower()
    processor = {"amd64": "x86_64", "arm64": "aarch64"}.get(processor, processor)
    libc = (platform.libc_ver()[0] or "musl") if system == "Linux" else ""
    return [system, processor, libc]


def is_for(needs, has):
    """Whether a program that needs such a machine runs on one that is so. One that needs no C library has none named."""
    return needs[:2] == has[:2] and needs[2] in ("", has[2])


def in_words(machine):
    return " ".join(word for word in machine if word)


def digest_of(path):
    """The SHA-256 of a file, in hexadecimal; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while portion := file.read(1 << 20):
                digest.update(portion)
    except OSError:
        return None
    return digest.hexdigest()
