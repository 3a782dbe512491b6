"""Answers to requests that cannot be served, in this project's shape and in OpenAI's."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

    from legit_embedding.errors import TaskError

RETRY_S = "1"
"""Sent as ``Retry-After``: a full batch takes a second at most."""
OPENAI = "/v1/"
"""The paths below this one answer errors in OpenAI's shape."""
CAUSES = ("starting", "stopping", "connections", "in_flight", "timeout", "overloaded")
"""The causes of a refusal, for metrics."""
REFUSED = "refused"
"""Key in a request's ASGI state of the cause for which it was refused."""

_STATUS = {
    "unknown_model": HTTPStatus.NOT_FOUND,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "expired": HTTPStatus.REQUEST_TIMEOUT,
    "non_finite": HTTPStatus.INTERNAL_SERVER_ERROR,
    "model_failed": HTTPStatus.INTERNAL_SERVER_ERROR,
    "poisoned": HTTPStatus.INTERNAL_SERVER_ERROR,
}
_OPENAI_CODES = {"unknown_model": "model_not_found"}
_OPENAI_TYPES = {HTTPStatus.UNAUTHORIZED: "authentication_error"}


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        code: a word for programs: a code of the contract, or of HTTP.
        detail: one sentence for a person.
        param: the field at fault, if there is one.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, detail: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, detail)
        self.status = HTTPStatus(status)
        self.code = code
        self.detail = detail
        self.param = param
        self.headers = dict(headers or {})
        self.cause: str | None = None
        """One of `CAUSES`, if it is a refusal."""

    @classmethod
    def of(cls, error: TaskError, param: str | None = None) -> HttpError:
        """Translate a task's error."""
        detail = error.detail if param is None else f"{param}: {error.detail}"
        status = _STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY)
        return cls(status, error.code, detail, "model" if error.code == "unknown_model" else param)

    def response(self, path: str) -> Response:
        """Make the answer, in the shape of the path's protocol."""
        headers = self.headers
        if not path.startswith(OPENAI):
            body: dict[str, object] = {"error": self.code, "detail": self.detail}
            return JSONResponse(body, self.status, headers)
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        body = {
            "message": self.detail,
            "type": _OPENAI_TYPES.get(self.status, kind),
            "code": _OPENAI_CODES.get(self.code, self.code),
            "param": self.param,
        }
        return JSONResponse({"error": body}, self.status, headers)


def unavailable(code: str, detail: str, cause: str | None = None) -> HttpError:
    """Refuse a request that another worker, or this one a little later, can serve.

    Args:
        code: a word for programs.
        detail: one sentence for a person.
        cause: one of `CAUSES`; by default the code, which is one too.
    """
    problem = HttpError(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers={"Retry-After": RETRY_S})
    problem.cause = cause or code
    return problem


def too_large(detail: str, param: str | None = None) -> HttpError:
    """Refuse a request that exceeds a limit, which no other attempt will change."""
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, param)


async def answer_problem(request: Request, problem: Exception) -> Response:
    """Answer with a `HttpError`."""
    assert isinstance(problem, HttpError)  # noqa: S101 - registered for this class
    if problem.cause is not None:
        setattr(request.state, REFUSED, problem.cause)
    return problem.response(request.url.path)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer with an error of the router: no such path, or another method."""
    status: HTTPException = error  # type: ignore[assignment]
    code = HTTPStatus(status.status_code).name.lower()
    return HttpError(status.status_code, code, status.detail, headers=status.headers).response(request.url.path)


async def answer_crash(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette logs it
    """Answer a request after an unforeseen error, without its text."""
    problem = HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_server_error", "the worker failed; see its log")
    return problem.response(request.url.path)
