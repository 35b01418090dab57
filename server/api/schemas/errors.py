"""The JSON of errors."""

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A word for programs.")
    message: str = Field(description="A sentence for people.")
    param: str | None = Field(description="The field at fault; null if no single field is.")


class ErrorResponse(BaseModel):
    """Every error outside `/v1` has this shape."""

    error: ErrorDetail


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="A sentence for people.")
    type: str = Field(description="One of the few types of errors of OpenAI's API.")
    param: str | None = Field(description="The field at fault; null if no single field is.")
    code: str = Field(description="A word for programs, which says exactly which error it is.")


class OpenAIErrorResponse(BaseModel):
    """Every error under `/v1` has this shape."""

    error: OpenAIErrorDetail
