"""Where results lie, as typed: no secret in it, and on object storage somebody who answers."""

import re
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from pixmix_ray.errors import ResultsError, one_line

ANSWER_SECONDS = 30.0  # Arrow tries three times, for six seconds in all, where nothing listens
SECRET = re.compile("key|secret|token|password|credential|signature|^sig$", re.IGNORECASE)  # in a query's name


def shown(uri: str) -> str:
    """The URI as it may be printed, whatever was written into it.

    >>> shown("s3://AKIA:hush@bucket/folder?region=eu-north-1&secret_key=hush")
    's3://***@bucket/folder?region=eu-north-1&secret_key=***'
    """
    if "://" not in uri:
        return uri
    kind, _, rest = uri.partition("://")
    place, mark, query = rest.partition("?")
    user, at, host = place.rpartition("@")  # a secret may hold a slash
    pairs = [re.sub(r"=.*", "=***", pair, flags=re.DOTALL) if _is_hidden(pair) else pair for pair in query.split("&")]
    return f"{kind}://{'***' if ':' in user else user}{at}{host}{mark}{'&'.join(pairs)}"


def refuse_secrets(uri: str) -> None:
    """Refuse a URI with credentials in it: it would be in logs, in errors and in Ray's own records.

    Raises:
        ResultsError: it has some; the message has none.
    """
    if "://" in uri and not uri.startswith("file://") and shown(uri) != uri:
        raise ResultsError(
            f"results {shown(uri)!r} must not contain credentials: leave them out, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (Google: GOOGLE_APPLICATION_CREDENTIALS) on every node, or give the nodes a role"
        )


def check_answer(uri: str, ask: Callable[[], object]) -> None:
    """Return if the storage answers; Arrow alone would wait for ever for a server that accepts and says nothing.

    Args:
        uri: of the results, for the message. One that answered is not asked again by this process.
        ask: makes one small request.

    Raises:
        ResultsError: it does not answer, or refuses.
    """
    if uri in _answered:
        return
    outcome: list[Exception | None] = []

    def try_once() -> None:
        try:
            ask()
            outcome.append(None)
        except Exception as error:  # passed on to the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=try_once, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not outcome:
        raise ResultsError(f"results {uri} did not answer within {ANSWER_SECONDS:g} s: {_way_out(uri)}")
    if isinstance(error := outcome[0], Exception):
        raise ResultsError(f"cannot reach results {uri}: {one_line(error, 300)}: {_way_out(uri)}")
    _answered.add(uri)


_answered: set[str] = set()


def _is_hidden(pair: str) -> bool:
    return SECRET.search(pair.partition("=")[0]) is not None


def _way_out(uri: str) -> str:
    where = "its endpoint_override and scheme" if "endpoint_override" in urlsplit(uri).query else "region and network"
    return f"check {where}, and the credentials in the environment"
