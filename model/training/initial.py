"""Weights that a training begins with, where the paper's are not the best ones."""

from typing import Annotated

import torch
from pydantic import BaseModel, Field

from causalrn.model.decoder import Decoder
from causalrn.model.validation import STRICT

_Std = Annotated[float, Field(gt=0)]


class Initial(BaseModel):
    """Deviations of random weights; what is left out is drawn as the paper does.

    Attributes:
        embedding_std: of the tables of tokens and of learned positions, in place of 1.
        output_std: of what mixers write to the residual stream, in place of 0.02 over the root of
            the number of blocks.
    """

    model_config = STRICT

    embedding_std: _Std | None = None
    output_std: _Std | None = None


def apply_initial(decoder: Decoder, initial: Initial) -> None:
    """Scale weights that have just been drawn."""
    wanted = {
        "embedding.token.weight": initial.embedding_std,
        "embedding.position.weight": initial.embedding_std,
        **{
            f"mixers.{number}.output.weight": initial.output_std
            for number in range(len(decoder.blocks))
        },
    }
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if (std := wanted.get(name)) is not None:
                parameter.mul_(std / parameter.std())
