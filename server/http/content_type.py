"""What a request says of its body."""

from email.message import Message

from starlette.datastructures import Headers


def content_type(headers: Headers) -> Message:
    """The `content-type`, whose names have no case, and whose parameters may be quoted.

    If it is missing or malformed, it counts as `text/plain`.
    """
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    return message
