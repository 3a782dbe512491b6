"""The HTTP door against its own OpenAPI document, by schemathesis: ``scripts/http_contract``."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.environments import environment
from tests.servers import free_port
from tests.waiting import wait_for
from tests.workers import Worker, to_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

PIN = "schemathesis==4.32.5"
SERVE = ("-m", "legit_embedding.cli", "serve")
NOWHERE = "redis://127.0.0.1:1/0"
TOKEN = "a-token-of-the-contract"
NULL = {"backend": "legit_embedding.models.null:NullModel", "default": True}
SEED, EXAMPLES = 20_261_126, 300
SMALL = {"max_items": 8, "max_text_chars": 64}
"""Limits that generated bodies exceed."""

REJECTED = ["400", "401", "403", "404", "405", "406", "409", "415", "422", "428", "429", "503"]
ACCEPTED = ["2xx", "401", "404", "503"]


@dataclass(frozen=True)
class Case:
    """One server."""

    name: str
    models: dict[str, Any]
    http: Mapping[str, Any] = field(default_factory=dict)
    unsayable: tuple[str, ...] = ()
    """Statuses with which data that fit the schema may be refused, for reasons that no schema can state."""


CASES = (
    Case("null models", {"words": NULL | {"kind": "text"}, "pictures": NULL | {"kind": "image"}}, SMALL),
    Case("a null model of both kinds", {"pair": NULL | {"kinds": ["text", "image"], "matryoshka": [4, 8]}}),
    # 422: the tokenizer has no such prompt or token id. The null models take any, and there 422 is a failure.
    Case("MiniLM", {}, SMALL, unsayable=("422",)),
)


@dataclass(frozen=True)
class Outcome:
    """One run of schemathesis."""

    code: int
    output: str

    @property
    def cases(self) -> str:
        """How many requests it made, and how many failures it found, in its own words."""
        found = re.search(r"^Test cases:\n  (.*)", self.output, re.MULTILINE)
        return found[1] if found else "no requests"


def check(case: Case, token: str, directory: Path, examples: int = EXAMPLES, seed: int = SEED) -> Outcome:
    """Start a server and let schemathesis look for answers that its document does not announce."""
    port = free_port()
    # Without schemes no image URL fits the schema: which URLs can be fetched is beyond it.
    settings = {"models": case.models, "http": {**case.http, "token": token}, "fetch": {"schemes": []}}
    config = directory / "schemathesis.toml"
    config.write_text(to_toml(rules(case, token)))
    program = environment("schemathesis", PIN) / "schemathesis"
    command = [str(program), "--config-file", str(config), "run", f"http://127.0.0.1:{port}/openapi.json"]
    command += ["--checks", "all", "--max-examples", str(examples), "--seed", str(seed)]
    command += ["--continue-on-failure", "--no-color", "--generation-database", "none"]
    with Worker(NOWHERE, directory, settings, command=SERVE, args=("--port", str(port))) as server:
        wait_for(lambda: is_well(port), 90, "the server to be well")
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        assert is_well(port), "the server is well after it all"
        assert server.stop() == 0
    return Outcome(done.returncode, done.stdout + done.stderr)


def rules(case: Case, token: str) -> dict[str, Any]:
    """What schemathesis has to know about this API; all its checks are on."""
    checks = {
        # No 5xx but 503.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        # 413: there are more items, or longer texts, than the schema allows. 408: a deadline has passed before.
        "negative_data_rejection": {"expected-statuses": [*REJECTED, "408", "413"]},
        # 408: a deadline in the past is well-formed, and has passed.
        "positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "408", *case.unsayable]},
    }
    # RFC 9110 has servers ignore header fields that they don't know, so one more is no violation.
    generation = {"allow-extra-parameters": False}
    auth = {"openapi": {"token": {"bearer": token}}} if token else None
    return {"checks": checks, "generation": generation, "request-timeout": 60, "auth": auth}


def is_well(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/http_contract", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="random ones per operation")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(f"{PIN}, {options.examples} examples per operation, seed {options.seed}")
    failed = False
    for case in CASES:
        for token in ("", TOKEN):
            with tempfile.TemporaryDirectory() as directory:
                outcome = check(case, token, Path(directory), options.examples, options.seed)
            print(f"{case.name}, {'with' if token else 'without'} a token: {outcome.cases}", flush=True)
            if outcome.code:
                failed = True
                print(outcome.output)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
