"""What the server says about the models that it serves, their tokenizers, and how it is."""

from pydantic import ConfigDict

from causalrn_client.models import Answer


class Model(Answer):
    """A model that is served, as `GET /v1/models` has it.

    Fields that are not listed here are kept: see `model_extra`.

    Attributes:
        id: Its name, which requests choose it by.
        created: When it was made, in seconds since 1970; None where the server does not say.
        owned_by: Whose it is; None where the server does not say.
        max_model_len: How many tokens it can hold; None where the server does not say.
        fingerprint: SHA-256 of its weights, in hexadecimal; None where the server does not say.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    created: int | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    fingerprint: str | None = None


class ModelList(Answer):
    """All models that are served.

    Attributes:
        data: These.
    """

    data: list[Model]


class AdminModel(Answer):
    """A model as its administrators see it.

    Attributes:
        name: Which requests choose it by.
        status: `serving`, `loading` or `unloading`; `failed` where it could not be loaded;
            `available` where it could be.
        is_default: Whether it serves the requests that name no model.
        fingerprint: SHA-256 of its weights, in hexadecimal; None where they are not loaded.
        error: Why it could not be loaded; None where it could, or nobody tried.
    """

    name: str
    status: str
    is_default: bool
    fingerprint: str | None = None
    error: str | None = None


class AdminModelList(Answer):
    """All models that are served, or could be.

    Attributes:
        models: These.
    """

    models: list[AdminModel]


class Tokenization(Answer):
    """A text as a model reads it.

    Attributes:
        count: How many tokens it has.
        max_model_len: How many the model can hold.
        tokens: Their ids, the special ones that wrap a prompt among them unless refused.
        token_strs: The same as texts; None where they were not asked for.
    """

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenization(Answer):
    """Token ids as text.

    Attributes:
        prompt: The text.
    """

    prompt: str


class TokenizerInfo(Answer):
    """The tokenizer of a model.

    Fields that are not listed here are kept: see `model_extra`.

    Attributes:
        model: The model.
        tokenizer_class: What kind it is, such as `bytes` or `letters`.
        vocab_size: How many token ids there are.
        model_max_length: How many tokens the model can hold.
        bos_token: Name of the token that begins a prompt.
        bos_token_id: Its id.
        sep_token: Name of the token that ends what is to be copied.
        sep_token_id: Its id.
        eos_token: Name of the token that ends what the model writes.
        eos_token_id: Its id.
    """

    model_config = ConfigDict(extra="allow")

    model: str
    tokenizer_class: str
    vocab_size: int
    model_max_length: int
    bos_token: str
    bos_token_id: int
    sep_token: str
    sep_token_id: int
    eos_token: str
    eos_token_id: int


class Health(Answer):
    """How busy a server is that can take requests.

    Attributes:
        status: `ready`.
        running: Samples that it works on.
        waiting: Samples that wait for a place.
        pages_used: Pages of its memory that are in use.
        pages_total: All of them.
    """

    status: str
    running: int = 0
    waiting: int = 0
    pages_used: int = 0
    pages_total: int = 0
