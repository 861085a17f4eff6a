"""The real huggingface_hub, and our client of ModelScope, against a hub on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glmserve.cli.doctor.unfetched import unfetched
from glmserve.cli.hub_names import resolve_names
from glmserve.cli.main import main
from glmserve.cli.values import named_adapter
from glmserve.config import EMBEDDED_CHECKPOINT, NamedAdapter
from glmserve.errors import CheckpointError
from glmserve.hub import HubPlaces, parse_name, resolve
from glmserve.hub.fetch import fetch
from glmserve.hub.files import missing_files
from glmserve.hub.name import HubName
from glmserve.hub.places import hub_places
from support.hub_server import COMMIT, Hub, serve_hub

pytest.importorskip("huggingface_hub", reason="needs the hub extra")

MODEL = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "model.safetensors": os.urandom(50_000),
    "pytorch_model.bin": b"x" * 20_000,
    "modeling_chatglm.py": b"import os",
    "README.md": b"# A model",
}
NEEDED = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub(Hub({"zai-org/m": MODEL, "ZhipuAI/m": MODEL})) as served:
        yield served


@pytest.fixture
def places(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubPlaces:
    variables = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        "MODELSCOPE_DOMAIN": hub.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return hub_places(os.environ)


def name(text: str) -> HubName:
    found = parse_name(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        "zai-org/m",
        "zai-org/m@v1.0",
        f"hf://zai-org/m@{COMMIT}",
        "ms://ZhipuAI/m",
        "ms://zai-org/m@v1.0",
    ],
)
def test_a_model_is_fetched_once(hub: Hub, places: HubPlaces, text: str) -> None:
    seen: list[tuple[int, int]] = []
    folder = resolve(name(text), places, progress=lambda *sizes: seen.append(sizes))
    assert {path.name for path in folder.iterdir() if path.name != ".mv"} == NEEDED
    for file in NEEDED:
        assert (folder / file).read_bytes() == MODEL[file]
    assert set(hub.fetched()) <= NEEDED
    total = sum(len(MODEL[file]) for file in NEEDED)
    assert seen[-1] == (total, total)
    hub.requests.clear()
    assert resolve(name(text), places) == folder
    assert resolve(name(text), places, may_fetch=False) == folder
    assert hub.requests == []


@pytest.mark.parametrize("text", ["zai-org/m", "ms://ZhipuAI/m"])
def test_a_broken_connection_is_resumed(hub: Hub, places: HubPlaces, text: str) -> None:
    hub.breaks = 2
    folder = resolve(name(text), places)
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert hub.fetched().count("model.safetensors") == 3


def test_a_fetch_goes_on_in_another_process(hub: Hub, places: HubPlaces) -> None:
    """What is there is not fetched again."""
    hub.breaks = 10**6
    with pytest.raises(CheckpointError, match="goes on with it"):
        resolve(name("ms://ZhipuAI/m"), places)
    hub.breaks = 0
    hub.requests.clear()
    resolve(name("ms://ZhipuAI/m"), places)
    assert hub.fetched() == ["model.safetensors"]
    (resumed,) = [headers["range"] for _, path, headers in hub.requests if "FilePath" in path]
    assert resumed != "bytes=0-"


def test_damage_is_noticed(hub: Hub, places: HubPlaces) -> None:
    part = places.modelscope[0] / "ZhipuAI" / "m" / "model.safetensors.glmserve-part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"0" * 1000)
    with pytest.raises(CheckpointError, match="damaged on its way"):
        resolve(name("ms://ZhipuAI/m"), places)
    assert missing_model(part)
    assert (resolve(name("ms://ZhipuAI/m"), places) / "model.safetensors").stat().st_size == 50_000


def missing_model(part: Path) -> bool:
    return not part.exists() and not part.with_name("model.safetensors").exists()


@pytest.mark.parametrize("text", ["zai-org/m", "ms://ZhipuAI/m"])
def test_a_wrong_byte_is_noticed(hub: Hub, places: HubPlaces, text: str) -> None:
    hub.damages = True
    with pytest.raises(CheckpointError, match=r"model\.safetensors was damaged on its way"):
        resolve(name(text), places)
    hub.damages = False
    folder = resolve(name(text), places)
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


class TestRevisions:
    """On ModelScope, a folder has one revision at a time."""

    def fetch(self, places: HubPlaces, revision: str) -> Path:
        return fetch(name(f"ms://ZhipuAI/m@{revision}"), places, lambda done, total: None)

    def test_files_of_equal_sizes_are_told_apart(self, hub: Hub, places: HubPlaces) -> None:
        self.fetch(places, "v1.0")
        other = {**MODEL, "config.json": b"[]", "model.safetensors": os.urandom(50_000)}
        for model in (other, {**other, "tokenizer.json": b"[]"}):  # a new commit of the branch, too
            hub.models["ZhipuAI/m"] = model
            hub.requests.clear()
            folder = self.fetch(places, "master")
            assert {path: (folder / path).read_bytes() for path in NEEDED} == {
                path: model[path] for path in NEEDED
            }
        assert hub.fetched() == ["tokenizer.json"]

    def test_nothing_stays_that_would_be_read_first(self, hub: Hub, places: HubPlaces) -> None:
        folder = self.fetch(places, "v1.0")
        (folder / "notes.txt").write_text("mine")
        shards = {f"model-0000{i}-of-00002.safetensors": b"x" * i for i in (1, 2)}
        index = {"model.safetensors.index.json": b"{}"}
        kept = {path: data for path, data in MODEL.items() if path != "model.safetensors"}
        hub.models["ZhipuAI/m"] = {**kept, **shards, **index}
        self.fetch(places, "master")
        assert not (folder / "model.safetensors").exists()
        assert (folder / "notes.txt").exists()

    def test_an_interrupted_change_leaves_no_mixture(self, hub: Hub, places: HubPlaces) -> None:
        folder = self.fetch(places, "v1.0")
        hub.models["ZhipuAI/m"] = {**MODEL, "model.safetensors": os.urandom(50_000)}
        hub.status = 500
        with pytest.raises(CheckpointError, match="the hub itself has failed"):
            self.fetch(places, "master")
        assert missing_files(folder) == ["model.safetensors"]

    def test_a_part_of_a_larger_file(self, hub: Hub, places: HubPlaces) -> None:
        part = places.modelscope[0] / "ZhipuAI" / "m" / "model.safetensors.glmserve-part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"0" * 60_000)
        folder = self.fetch(places, "master")
        assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_several_may_fetch_at_once(hub: Hub, places: HubPlaces) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = [threads.submit(resolve, name("ms://ZhipuAI/m"), places) for _ in range(4)]
    folder = {each.result() for each in folders}.pop()
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert hub.fetched().count("model.safetensors") == 1


def test_a_token_stays_with_its_hub(
    hub: Hub, places: HubPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    with serve_hub(Hub({"ZhipuAI/m": MODEL})) as other:
        hub.elsewhere = other.url.replace("127.0.0.1", "localhost")
        resolve(name("ms://ZhipuAI/m"), hub_places(os.environ))
    assert other.fetched() == ["model.safetensors"]
    assert not any("cookie" in headers for _, _, headers in other.requests)
    assert all("secret" in headers["cookie"] for _, _, headers in hub.requests)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("zai-org/m", 401, "it is private, or its owner must allow you to read it; set HF_TOKEN"),
        ("zai-org/m", 403, "set HF_TOKEN"),
        ("zai-org/m", 404, "no such model, revision or file"),
        ("ms://ZhipuAI/m", 403, "set MODELSCOPE_API_TOKEN"),
        ("ms://ZhipuAI/m", 429, "too many requests (HTTP status 429); try again later"),
        ("ms://ZhipuAI/m", 503, "the hub itself has failed (HTTP status 503); try again later"),
        ("ms://ZhipuAI/m", 418, "HTTP status 418"),
    ],
)
def test_a_file_that_the_hub_does_not_give(
    hub: Hub, places: HubPlaces, text: str, status: int, said: str
) -> None:
    hub.status = status
    with pytest.raises(CheckpointError) as caught:
        resolve(name(text), places)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_bin_only_without_safetensors(hub: Hub, places: HubPlaces) -> None:
    hub.models["zai-org/m"] = {k: v for k, v in MODEL.items() if k != "model.safetensors"}
    folder = resolve(name("zai-org/m"), places)
    assert (folder / "pytorch_model.bin").is_file()


def test_a_model_that_was_renamed(hub: Hub, places: HubPlaces) -> None:
    hub.moved["THUDM/m"] = "zai-org/m"
    assert (resolve(name("THUDM/m"), places) / "model.safetensors").is_file()


def test_an_incomplete_snapshot_is_completed(hub: Hub, places: HubPlaces) -> None:
    folder = resolve(name("zai-org/m"), places)
    (folder / "model.safetensors").resolve().unlink()
    (folder / "model.safetensors").unlink()
    assert resolve(name("zai-org/m"), places) == folder
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zai-org/none", "there is no such model, or it is private; check the name"),
        ("zai-org/m@v9", "it has no branch, tag or commit 'v9'"),
        ("ms://ZhipuAI/none", "there is no such model, revision or file"),
        ("ms://ZhipuAI/m@v9", "there is no such model, revision or file"),
    ],
)
def test_refusals(places: HubPlaces, text: str, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve(name(text), places)
    assert said in caught.value.message
    assert text in caught.value.message
    assert "\n" not in caught.value.message


def test_a_private_model(hub: Hub, places: HubPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_secret"
    with pytest.raises(CheckpointError, match="set HF_TOKEN"):
        resolve(name("zai-org/m"), places)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert resolve(name("zai-org/m"), places).is_dir()
    assert all("hf_secret" in headers["authorization"] for _, _, headers in hub.requests[-3:])


def test_no_hub_can_be_reached(places: HubPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    for text in ("zai-org/m", "ms://ZhipuAI/m"):
        with pytest.raises(CheckpointError, match="cannot be fetched from http"):
            fetch(name(text), hub_places(os.environ), lambda done, total: None)


def test_no_model(hub: Hub, places: HubPlaces) -> None:
    hub.models["a/data"] = {"README.md": b"", "data.parquet": b""}
    hub.models["a/gguf"] = {"config.json": b"{}", "m.gguf": b""}
    with pytest.raises(CheckpointError, match="so it is no model"):
        resolve(name("a/data"), places)
    with pytest.raises(CheckpointError, match="no weights in safetensors"):
        resolve(name("a/gguf"), places)


class TestCommands:
    def run(self, *arguments: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code

    def test_pull(self, places: HubPlaces, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
        assert not self.run("pull", "zai-org/m", "ms://ZhipuAI/m")
        first, second = map(Path, capsys.readouterr().out.splitlines())
        assert (first / "model.safetensors").is_file()
        assert second == places.modelscope[0] / "ZhipuAI" / "m"
        assert self.run("pull", "zai-org/none") == 1
        error = capsys.readouterr().err
        assert error.startswith("glmserve: error: zai-org/none: cannot be fetched")
        assert error.count("\n") == 1
        assert self.run("pull", "/models/m") == 2
        assert "no name of a model" in capsys.readouterr().err

    def test_offline(
        self,
        places: HubPlaces,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert self.run("pull", "zai-org/m") == 1
        assert "offline" in capsys.readouterr().err
        assert hub.requests == []

    def test_models(self, places: HubPlaces, capsys: pytest.CaptureFixture[str]) -> None:
        assert not self.run("models")
        assert capsys.readouterr().out.startswith("no models in ")
        self.run("pull", "zai-org/m", "ms://ZhipuAI/m")
        capsys.readouterr()
        assert not self.run("models")
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["NAME", "zai-org/m", "ms://ZhipuAI/m"]
        assert "48.8 KiB" in lines[1]
        assert "no: model_type is missing" in lines[1]
        assert not self.run("models", "--json")
        assert '"weight_bytes":50000' in capsys.readouterr().out

    def test_models_of_other_branches_and_adapters(
        self, places: HubPlaces, hub: Hub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hub.models["a/lora"] = {
            "adapter_config.json": b'{"peft_type": "LORA"}',
            "adapter_model.safetensors": b"x",
        }
        self.run("pull", "zai-org/m@v1.0", "a/lora")
        snapshot = Path(capsys.readouterr().out.splitlines()[0])
        shutil.copytree(snapshot, snapshot.with_name("b" * 40))
        shutil.copytree(snapshot, places.modelscope[0] / "a" / os.fsdecode(b"\xd6\xd0\xff"))
        assert not self.run("models", "--json")
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [model["name"] for model in found] == [
            "a/lora",
            "zai-org/m@v1.0",
            "zai-org/m@bbbbbbbbbbbb",
            "ms://a/\\xd6\\xd0\\xff",
        ]
        assert found[0]["reason"].startswith("only an adapter (LORA adapter), not a model")

    def test_a_typing_error_is_one_line(
        self, places: HubPlaces, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run("generate", "--checkpoint", "models/mine", "--prompt", "x") == 1
        error = capsys.readouterr().err
        assert "no such file or folder; models/mine: cannot be fetched" in error
        assert error.count("\n") == 1


class TestNamesInOptions:
    def test_a_prefix_has_no_tokenizer(self, hub: Hub, places: HubPlaces) -> None:
        hub.models["a/prefix"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
        hub.models["a/lora"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
        options = Namespace(ptuning_checkpoint=name("a/prefix"), keeps_hub_names=True)
        resolve_names(options, os.environ)
        assert (options.ptuning_checkpoint / "pytorch_model.bin").is_file()
        adapter = resolve(name("a/lora"), places, kind="part")
        hub.requests.clear()
        assert resolve(name("a/lora"), places, kind="part") == adapter
        assert hub.requests == []

    def test_adapters(self, hub: Hub, places: HubPlaces, tmp_path: Path) -> None:
        hub.models["a/lora"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
        given = [named_adapter("poems=a/lora"), named_adapter(f"law={tmp_path}")]
        assert given[0].folder == name("a/lora")
        options = Namespace(adapter=given, merge_adapter=name("a/lora"), stop=["a/lora"])
        resolve_names(options, os.environ)
        folder = resolve(name("a/lora"), places, kind="part")
        assert (folder / "adapter_model.safetensors").is_file()
        assert options.adapter == [NamedAdapter("poems", folder), NamedAdapter("law", tmp_path)]
        assert options.merge_adapter == folder
        assert options.stop == ["a/lora"]

    def test_a_folder_takes_the_place_of_a_name(self, places: HubPlaces) -> None:
        options = Namespace(checkpoint=name("zai-org/m"), ptuning_checkpoint=None, seed=1)
        resolve_names(options, os.environ)
        assert (options.checkpoint / "model.safetensors").is_file()
        assert options.seed == 1

    def test_doctor_fetches_nothing(self, hub: Hub, places: HubPlaces) -> None:
        options = Namespace(checkpoint=name("zai-org/m"), keeps_hub_names=True)
        resolve_names(options, os.environ)
        assert options.checkpoint == name("zai-org/m")
        assert hub.requests == []
        folder = resolve(name("zai-org/m"), places)
        resolve_names(options, os.environ)
        assert options.checkpoint == folder
        (folder / "model.safetensors").unlink()
        options.checkpoint = name("zai-org/m")
        resolve_names(options, os.environ)
        assert options.checkpoint == name("zai-org/m")


@pytest.mark.parametrize("text", ["zai-org/m", "ms://ZhipuAI/m"])
def test_what_would_be_fetched(hub: Hub, places: HubPlaces, text: str) -> None:
    with unfetched(name(text), places) as (folder, download):
        assert (folder / "config.json").read_bytes() == MODEL["config.json"]
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        assert folder.name == "m"
    total = sum(len(MODEL[file]) for file in NEEDED)
    assert (download.files, download.total_bytes, download.problem) == (len(NEEDED), total, "")
    assert set(hub.fetched()) == {"config.json"}
    assert not places.hf_cache.exists() or not list(places.hf_cache.iterdir())
    assert not folder.exists()


def test_a_disk_that_is_too_small(places: HubPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=1000))
    with unfetched(name("zai-org/m"), places) as (_, download):
        assert "48.8 KiB would be fetched" in download.problem


@pytest.mark.slow
def test_doctor_before_a_byte_is_fetched(
    hub: Hub, places: HubPlaces, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (EMBEDDED_CHECKPOINT / "config.json").read_bytes()
    hub.models["zai-org/glm-4-tiny"] = {**MODEL, "config.json": config}
    assert not TestCommands().run("doctor", "zai-org/glm-4-tiny", "--device", "cpu", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["can_serve"]
    assert report["download"]["files"] == len(NEEDED)
    assert report["checkpoint"]["path"] == "zai-org/glm-4-tiny"
    assert report["command"] == "glmserve serve zai-org/glm-4-tiny --device cpu"
    assert report["plans"][0]["kv_cache_tokens"] > 0
    assert set(hub.fetched()) == {"config.json"}
    assert not TestCommands().run("doctor", "zai-org/glm-4-tiny", "--device", "cpu")
    assert "KiB to fetch, files: 4" in capsys.readouterr().out
    assert TestCommands().run("doctor", "zai-org/none") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_ctrl_c_waits_for_no_thread() -> None:
    program = """
import os, signal, threading, time
from glmserve.cli.hub_names import download_bar
from glmserve.hub.name import HubName

with download_bar(HubName("a", "m")):
    threading.Thread(target=time.sleep, args=[60]).start()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert ended.returncode == 128 + signal.SIGINT
