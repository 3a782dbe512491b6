"""A remote model: its settings, its protocol and what is known of its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import ConfigError
from legit_embedding.models.prompts import Prompts
from legit_embedding.models.settings import misconfigured
from legit_embedding.remote.dialects import DIALECTS
from legit_embedding.remote.errors import OutageError
from legit_embedding.remote.recipe import RemoteRecipe

if TYPE_CHECKING:
    from legit_embedding.models.backend import Recipe
    from legit_embedding.models.config import Kind, ModelConfig

MAX_BATCH = 32
"""Items per request where the settings name no number: what text-embeddings-inference takes by default."""


class RemoteModel:
    """One kind of one model that is computed elsewhere. Like a `Backend`, but without its device half.

    Raises:
        ConfigError: the settings do not fit the protocol; the message names one as ``models.NAME.field``.
    """

    revision = digest = ""

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name = name
        self.config = config
        self.dialect = DIALECTS[config.backend]
        self.url = self.dialect.url(config.base_url)
        self.base64 = self.dialect.has_base64
        """True if vectors are asked for as base64; the first probe finds out whether the remote takes that."""
        self.dimension = config.asked_dimensions
        """The length of its vectors: as set, or as in its first good answer; None before."""
        if self.kind not in self.dialect.items:
            reason = f"the backend {config.backend!r} embeds {' and '.join(self.dialect.items)}s only"
            raise misconfigured(name, "kind", reason)
        self._sends_prompts = self.dialect.sends_prompts and not config.prompts
        try:
            self._prompts = Prompts(config.prompts, "" if self._sends_prompts else config.default_prompt or "")
        except ValueError as error:
            raise misconfigured(name, "default_prompt", error) from None
        try:
            self.headers()
        except OutageError as error:
            field = "token" if config.token_file is None else "token_file"
            raise misconfigured(name, field, error) from None

    @classmethod
    def towers(cls, name: str, config: ModelConfig) -> dict[Kind, RemoteModel]:
        """Make a model for each kind that the settings name."""
        return {kind: cls(name, config.only(kind)) for kind in config.serves}

    @property
    def kind(self) -> Kind:
        """Kind of input that it embeds."""
        return self.config.serves[0]

    @property
    def dim(self) -> int:
        """Vector length; known after the first good answer."""
        if self.dimension is None:
            message = f"models.{self.name}: the remote has not answered yet, so its dimension is unknown"
            raise ConfigError(message)
        return self.dimension

    def recipe(self) -> Recipe:
        """Make the recipe."""
        return RemoteRecipe(self._prompts, self.config.default_prompt, sends_prompts=self._sends_prompts)

    def token(self) -> str:
        """Return the bearer token, empty for none.

        Raises:
            OutageError: its file cannot be read, or it cannot be sent in a header.
        """
        config = self.config
        token = config.token.get_secret_value() if config.token is not None else ""
        if config.token_file is not None:
            try:
                token = config.token_file.read_text().strip()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise OutageError("status", f"{config.token_file} cannot be read: {reason}", everyone=True) from None
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise OutageError("status", "the token holds characters that no header can carry", everyone=True)
        return token

    def headers(self) -> dict[str, str]:
        """Return the headers of a request.

        Raises:
            OutageError: as for `token`.
        """
        # Uncompressed, so that an answer's size is what is received.
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        token = self.token()
        return headers | ({"authorization": f"Bearer {token}"} if token else {})
