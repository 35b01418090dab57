"""What goes over the wire when something goes wrong."""

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A word for programs.")
    message: str = Field(description="A sentence for people.")
    param: str | None = Field(description="The field at fault, if it is one.")


class ErrorResponse(BaseModel):
    """Every error outside `/v1` has this shape."""

    error: ErrorDetail


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="A sentence for people.")
    type: str = Field(description="One of few words for programs.")
    param: str | None = Field(description="The field at fault, if it is one.")
    code: str = Field(description="A word for programs, of this error alone.")


class OpenAIErrorResponse(BaseModel):
    """Every error under `/v1` has this shape."""

    error: OpenAIErrorDetail
