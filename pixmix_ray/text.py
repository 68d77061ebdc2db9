"""Short forms: a hash for names, and an error as one line for messages."""

import hashlib


def short_hash(content: str | bytes, digits: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of some text (as UTF-8) or bytes.

    >>> short_hash("a")
    'ca978112ca1b'
    """
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:digits]


def one_line(error: object, limit: int = 300) -> str:
    r"""What an error says in one line of at most `limit` printable characters.

    >>> one_line(ValueError("not a number:\n  \x1b[31mNaN"))
    'not a number: [31mNaN'
    """
    words = " ".join(str(error).split())
    return "".join(letter for letter in words if letter.isprintable())[:limit]
