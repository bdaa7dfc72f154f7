# SPDX-License-Identifier: Apache-2.0
"""Names of the hub: what the cache holds is found without a network, and fetched only when asked.

The hub is a program on this machine that answers as the hub does. No test asks the real one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("transformers")

from gsqc.errors import ModelError, OptionError
from gsqc.models import load_model, model_path
from gsqc.models.hub import cache_folder, cached_model, fetch_model, is_hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "some-org/tiny.llama"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(cache: Path, model: Path, commit: str = COMMIT) -> Path:
    """A cache as huggingface_hub leaves it: files are links to blobs."""
    folder = cache / "models--some-org--tiny.llama"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir(exist_ok=True)
    for file in model.iterdir():
        shutil.copy(file, folder / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return snapshot


def test_a_name_is_found_in_the_cache(cache: Path, model_directory: Path) -> None:
    snapshot = fill(cache, model_directory)
    assert cached_model(NAME) == model_path(NAME) == snapshot
    loaded = load_model(NAME)
    assert loaded.metadata["name"] == NAME  # an exported adapter names its base by it
    assert loaded.tokenizer_json is not None


def test_the_ref_says_which_snapshot(cache: Path, model_directory: Path) -> None:
    first = fill(cache, model_directory)
    second = fill(cache, model_directory, COMMIT[::-1])
    assert cached_model(NAME) == second
    ref = cache / "models--some-org--tiny.llama" / "refs" / "main"
    ref.write_text("../../../somewhere")
    assert cached_model(NAME) is None  # two snapshots, and none is named
    shutil.rmtree(second)
    assert cached_model(NAME) == first


def test_a_path_goes_before_a_name(
    cache: Path, model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, model_directory)
    shutil.copytree(model_directory, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert model_path(NAME) == Path(NAME)
    assert load_model(NAME).metadata["name"] == "tiny.llama"


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
        ({"HF_HOME": "/c"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize(
    "name", ["a/b/c", "a", "../b", "a/..", "/a/b", "a/b\n", "", "a/b c", "é/b"]
)
def test_what_is_no_name_of_the_hub(name: str, cache: Path) -> None:
    assert not is_hub_name(name)
    assert cached_model(name) is None
    with pytest.raises(OptionError, match="no name of the hub"):
        fetch_model(name)


def test_a_name_that_is_not_there_says_how_to_fetch_it(cache: Path) -> None:
    with pytest.raises(ModelError, match="there is no model some-org") as error:
        load_model(NAME)
    assert "--download" in error.value.hint


class Hub(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a hub that has one model."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        self.asked.append(self.path)
        place = f"/{NAME}/resolve/{COMMIT}/"
        if self.path.startswith(f"/api/models/{NAME}/revision/main"):
            names = [{"rfilename": name} for name in self.files]
            answer = {"id": NAME, "sha": COMMIT, "siblings": names}
            self._send(json.dumps(answer).encode(), body=True)
        elif self.path.startswith(f"/api/models/{NAME}/tree/{COMMIT}"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
            self._send(json.dumps(entries).encode(), body=True)
        elif self.path.startswith(place) and self.path.removeprefix(place) in self.files:
            self._send(self.files[self.path.removeprefix(place)], body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(model_directory: Path) -> Iterator[str]:
    """The address of a hub that has the tiny llama, and files that nobody should fetch."""
    Hub.files = {file.name: file.read_bytes() for file in model_directory.iterdir()}
    Hub.files |= dict.fromkeys(("pytorch_model.bin", "modeling_tiny.py", "a/x.safetensors"), b"?")
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(hub: str, cache: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a process of its own: huggingface_hub reads the variables when it is imported."""
    code = "import sys, gsqc.models.hub as h; print(h.fetch_model(sys.argv[1]))"
    variables = {"HF_ENDPOINT": hub, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    environment = {**os.environ, **variables, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, name], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_only_numbers_settings_and_texts_are_fetched(hub: str, cache: Path) -> None:
    result = fetched(hub, cache, NAME)
    assert result.returncode == 0, result.stderr
    place = Path(result.stdout.strip())
    assert place == cached_model(NAME)
    there = {str(file.relative_to(place)) for file in place.rglob("*")}
    assert there == Hub.files.keys() - {"pytorch_model.bin", "modeling_tiny.py", "a/x.safetensors"}
    assert all((place / name).read_bytes() == Hub.files[name] for name in there)
    assert load_model(NAME).weights.names()


def test_a_model_that_the_hub_does_not_have(hub: str, cache: Path) -> None:
    result = fetched(hub, cache, "some-org/other")
    assert "the hub has no model some-org/other" in result.stderr
    assert cached_model("some-org/other") is None
