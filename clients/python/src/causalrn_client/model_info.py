"""The server's answers about its models, their tokenizers and its own health."""

from pydantic import ConfigDict

from causalrn_client.models import Answer


class Model(Answer):
    """A model that is served, as listed by `GET /v1/models`.

    Fields that are not listed here are kept in `model_extra`. Apart from `id`, each attribute is
    None if the server does not tell it.

    Attributes:
        id: The name of the model, by which requests choose it.
        created: When its checkpoint was made, in seconds since 1970.
        owned_by: Who provides it.
        max_model_len: The most tokens that it can process at once, prompt and answer together.
        fingerprint: The SHA-256 of its weights, in hexadecimal.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    created: int | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    fingerprint: str | None = None


class ModelList(Answer):
    """The answer of `GET /v1/models`.

    Attributes:
        data: The models that are served.
    """

    data: list[Model]


class AdminModel(Answer):
    """A model from an administrator's point of view, served or not.

    Attributes:
        name: The name of the model, by which requests choose it.
        status: `serving`, `loading`, `unloading`, `available` (can be loaded) or `failed` (could
            not be loaded).
        is_default: Whether requests that do not name a model use this one.
        fingerprint: The SHA-256 of its weights, in hexadecimal; None if they are not loaded.
        error: Why it could not be loaded, if its `status` is `failed`; otherwise None.
    """

    name: str
    status: str
    is_default: bool
    fingerprint: str | None = None
    error: str | None = None


class AdminModelList(Answer):
    """The answer of `GET /admin/models`.

    Attributes:
        models: The models that are served and those that could be.
    """

    models: list[AdminModel]


class Tokenization(Answer):
    """A text as a model reads it.

    Attributes:
        count: The number of tokens.
        max_model_len: The most tokens that the model can process at once.
        tokens: The token ids, including the special ones around a prompt if they were asked for.
        token_strs: The text of each token; None if not asked for.
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

    Fields that are not listed here are kept in `model_extra`.

    Attributes:
        model: The name of the model.
        tokenizer_class: The kind of tokenizer, such as `bytes` or `letters`.
        vocab_size: The number of token ids.
        model_max_length: The most tokens that the model can process at once.
        bos_token: The name of the token that begins a prompt.
        bos_token_id: The id of that token.
        sep_token: The name of the token that ends a text to copy.
        sep_token_id: The id of that token.
        eos_token: The name of the token that ends what the model writes.
        eos_token_id: The id of that token.
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
    """How busy a server is.

    Attributes:
        status: `ready`: a server that is not ready answers with an error.
        running: How many samples are being written.
        waiting: How many samples are waiting for their turn.
        pages_used: How many pages of the server's memory pool are in use.
        pages_total: How many pages the pool has.
    """

    status: str
    running: int = 0
    waiting: int = 0
    pages_used: int = 0
    pages_total: int = 0
