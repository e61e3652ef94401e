"""Documents in the form of OpenAI's API, for clients that speak it.

Source: https://platform.openai.com/docs/api-reference/embeddings.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class OpenAIEmbedding(BaseModel):
    """One image's embedding, as OpenAI's API has it."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(
        description="Numbers or, for `encoding_format` base64, float32, little endian, in base64."
    )


class OpenAIUsage(BaseModel):
    """Tokens, of which images have none."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingsResponse(BaseModel):
    """The answer to ``POST /v1/embeddings``."""

    object: Literal["list"] = "list"
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage = OpenAIUsage()
