"""Why a server did not let us in, where waiting does not help: the setting is wrong.

libpq reports a failed connection by text alone, without a code. A server that speaks another language than
English is not understood here; its own words are then all there is, and the connection is tried again.
"""

import re

from sqlalchemy.engine import URL

_PASSWORD = "check the user in database.url, and the password there or in database.password"  # noqa: S105
_REASONS = (
    ("password authentication failed", "refuses the login of '{user}': " + _PASSWORD),
    ("no password supplied", "wants a password of '{user}': set it in database.url or database.password"),
    ("does not match host name", "shows a certificate for another name: use that one in database.url"),
    (
        "certificate verify failed",
        "shows a certificate that is not trusted: check sslrootcert in database.url",
    ),
    ("root certificate file", "cannot be checked, as the file of sslrootcert in database.url does not exist"),
    ("certificate file", "cannot be reached: check the certificate files in database.url"),
    ("server does not support SSL", "does not speak TLS, which sslmode in database.url asks for"),
    ("no encryption", "wants TLS: add sslmode=verify-full and sslrootcert=FILE to database.url"),
    (
        "unsupported startup parameter",
        "is behind a pooler that takes no options: leave them out of database.url, or let it ignore them",
    ),
    (
        "statement pooling mode",
        "is behind a pooler that keeps no transaction together: set its pool_mode to transaction or session",
    ),
    ("no pg_hba.conf entry", "does not let '{user}' in from this machine (its pg_hba.conf says who may)"),
)
# libpq's own words for an option that it does not know, or a value that the option cannot have.
_BAD_OPTION = re.compile(r"invalid connection option .+|invalid \w+ value.+|bad value for .+")


def explain_refusal(message: str, url: URL, place: str) -> str | None:
    """A sentence that names the setting; None where the message is no refusal.

    Args:
        message: What the driver said.
        url: Where to.
        place: The same for people.
    """
    if "FATAL:  database" in message and "does not exist" in message:
        return f"The database {place} does not exist: create it, or check the name in database.url."
    if bad := _BAD_OPTION.search(message):
        return f"The options behind the '?' in database.url cannot be used: {bad[0].rstrip('.')}."
    for words, sentence in _REASONS:
        if words in message:
            return f"The database {place} {sentence.format(user=url.username)}."
    return None
