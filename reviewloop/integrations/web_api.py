"""A JSON interface over HTTP: bounded answers, time-outs, and errors by what the caller does next."""

import json
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from reviews.errors import ReviewLoopError, Unavailable
from reviews.sanitise import sanitise

_MOST_BYTES = 64 * 2**20
_LONGEST_DETAIL = 500
_TOO_MANY, _TOO_SLOW = 429, 408


class WebRefusal(ReviewLoopError):
    """The service answered that it will not do this: correct what was asked, or the access.

    Attributes:
        status: Of the answer.
        code: What the service calls the reason; empty where it does not say.
    """

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class WebApi:
    """One service.

    Args:
        name: What people call it.
        url: Its address, to which paths are added.
        headers: Sent with every request; asked for each time, since access tokens end.
        timeout_seconds: Of one request.
    """

    def __init__(
        self, name: str, url: str, headers: Callable[[], Mapping[str, str]], timeout_seconds: float
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._headers = headers
        self._timeout_seconds = timeout_seconds
        self._opener = build_opener(NoRedirect)

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answers with, as plain JSON values; None for an empty answer.

        Raises:
            WebRefusal: If the service refuses.
            Unavailable: If it does not answer, or answers with something else than JSON.
        """
        return self.call("GET", path + (f"?{urlencode(query)}" if query else ""))

    def post(self, path: str, body: Any) -> Any:
        """What a POST of JSON answers with; errors as for :meth:`get`."""
        return self.call("POST", path, json.dumps(body).encode(), "application/json")

    def call(self, method: str, path: str, content: bytes | None = None, kind: str = "") -> Any:
        """One request; errors as for :meth:`get`.

        Args:
            method: Of HTTP.
            path: Behind the address.
            content: The body.
            kind: Its media type.
        """
        headers = {**self._headers(), **({"Content-Type": kind} if kind else {})}
        request = Request(f"{self.url}{path}", content, headers, method=method)  # noqa: S310  http(s) by its type
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                raw = answer.read(_MOST_BYTES + 1)
        except HTTPError as err:
            raise self._refusal(err, path) from err
        except (URLError, HTTPException, OSError) as err:
            reason = err.reason if isinstance(err, URLError) else err
            raise Unavailable(f"{self.name} at {self._host} does not answer: {reason}.") from err
        return self._decoded(raw)

    def _decoded(self, raw: bytes) -> Any:
        if len(raw) > _MOST_BYTES:
            raise Unavailable(f"{self.name} at {self._host} answered with more than {_MOST_BYTES:,} bytes.")
        try:
            return json.loads(raw) if raw.strip() else None
        except ValueError as err:
            raise Unavailable(
                f"{self.name} at {self._host} did not answer in JSON: is the address right, and is no proxy "
                "in between?"
            ) from err

    def _refusal(self, err: HTTPError, path: str) -> ReviewLoopError:
        with err:
            raw = err.read(_LONGEST_DETAIL * 8)
        try:
            said = json.loads(raw)
        except ValueError:
            said = None
        fields = said if isinstance(said, dict) else {}
        detail = fields.get("message") or fields.get("detail") or said
        is_page = said is None and raw.lstrip().startswith(b"<")
        text = "a page" if is_page else str(detail or raw.decode("utf-8", "replace"))
        shown = " ".join(sanitise(text).split())[:_LONGEST_DETAIL]
        place = f"{self.name} at {self._host} answered {path.partition('?')[0]} with status {err.code}"
        if err.code >= 500 or err.code in {_TOO_MANY, _TOO_SLOW}:
            return Unavailable(f"{place}: {shown}")
        return WebRefusal(f"{place}: {shown}", err.code, str(fields.get("error_code") or ""))

    @property
    def _host(self) -> str:
        """Without what may be secret."""
        return urlsplit(self.url).hostname or "an unknown host"


class NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: it would hand the login to another host, and a POST would lose its body."""

    def redirect_request(self, *_: Any) -> None:
        """The redirect becomes an error that names the address."""
