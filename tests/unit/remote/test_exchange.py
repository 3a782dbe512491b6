"""What is sent to a remote."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from legit_embedding.config import ModelConfig
from legit_embedding.errors import TaskError
from legit_embedding.remote.exchange import Exchange
from legit_embedding.remote.model import RemoteModel
from tests.images import encoded
from tests.remotes import DIM, Remote, Reply, vector

if TYPE_CHECKING:
    from numpy.typing import NDArray


def model(remote: Remote, **settings: Any) -> RemoteModel:
    given = {"kind": "text", "backend": remote.backend, "base_url": remote.url} | settings
    return RemoteModel("far", ModelConfig(**given))


def embed(model: RemoteModel, items: Any) -> NDArray[np.float32]:
    async def run() -> NDArray[np.float32]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await Exchange(client, model).embed(items)

    return asyncio.run(run())


SMALL = encoded(Image.new("RGB", (20, 10)), "JPEG")
EVIL = ['a "quote"', "line\nbreak", "emoji \U0001f600", "\x00 zero", "", " ", "lone \ud800 surrogate"]


@pytest.mark.parametrize(
    ("backend", "settings", "fields"),
    [
        ("http", {}, {}),
        ("http", {"name": "e5", "dimensions": DIM}, {"model": "e5", "dimensions": DIM}),
        ("openai", {"name": "e5"}, {"model": "e5", "encoding_format": "base64"}),
        ("ollama", {"name": "e5"}, {"model": "e5", "truncate": True}),
    ],
)
def test_texts_are_sent_as_the_protocol_says(backend: str, settings: dict[str, Any], fields: dict[str, Any]) -> None:
    with Remote(backend) as remote:
        remote.misbehave = lambda request: Reply(status=500)
        far = model(remote, **settings)
        with pytest.raises(Exception, match="500"):
            embed(far, far.recipe().texts(EVIL))
        (request,) = remote.requests
    name = "texts" if backend == "http" else "input"
    assert request.fields == fields | {name: EVIL}


def test_a_prompts_name_is_sent(remote: Remote) -> None:
    far = model(remote)
    embed(far, far.recipe().texts(["one"], ["query"]))
    assert remote.requests[0].fields == {"texts": ["one"], "prompt_name": "query"}


@pytest.mark.parametrize("backend", ["http", "openai"])
def test_an_image_is_sent_as_it_came(backend: str) -> None:
    with Remote(backend) as remote:
        far, file = model(remote, kind="image"), SMALL
        found = embed(far, [far.recipe().image(file, 10_000)])
        (request,) = remote.requests
    url = f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
    assert request.items == [url]
    assert np.allclose(found, [vector(url)], atol=1e-6)
    if backend == "http":
        assert request.fields["texts"] == []


@pytest.mark.parametrize(("data", "pixels", "code"), [(b"no image", 10_000, "undecodable"), (None, 10, "too_large")])
def test_what_is_no_image_is_not_sent(remote: Remote, data: bytes | None, pixels: int, code: str) -> None:
    with pytest.raises(TaskError) as caught:
        model(remote, kind="image").recipe().image(SMALL if data is None else data, pixels)
    assert caught.value.code == code


def test_a_hand_off_is_refused(remote: Remote) -> None:
    recipe = model(remote).recipe()
    for refuse in (lambda: recipe.check_handoff(np.dtype("f4"), (3, 2, 2)), lambda: recipe.handoff(np.zeros(3))):
        with pytest.raises(TaskError, match="handoff_refused"):
            refuse()


def test_base64_is_asked_for_and_read() -> None:
    with Remote("openai") as remote:
        far = model(remote)
        found = embed(far, far.recipe().texts(["one", "two"]))
        assert remote.requests[0].fields["encoding_format"] == "base64"
    assert np.allclose(found, [vector("one"), vector("two")], atol=1e-6)
    assert (found.dtype, far.dim) == (np.float32, DIM)


def test_the_token_is_sent_and_never_said(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    remote.misbehave = lambda request: Reply(status=401, body=f"bad key {request.headers['authorization']}".encode())
    far = model(remote, token="s3cret")
    with pytest.raises(Exception, match="bad key") as caught:
        embed(far, far.recipe().texts(["one"]))
    assert remote.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(caught.value) + caplog.text


def test_the_environments_proxy_is_not_used(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, make_processor: Any
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    from tests.unit.remote.test_processor import settled, submit

    items = submit(make_processor(remote), ["one"])
    settled(items)
    assert items[0].is_right
