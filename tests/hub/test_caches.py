"""Models are found in the caches that other tools have written; nothing is written there."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.cli.models import cached_models
from glmserve.errors import CheckpointError
from glmserve.hub import HubPlaces, find, parse_name, resolve
from glmserve.hub.files import RepositoryFile, missing_files, needed_files
from glmserve.hub.modelscope_cache import repositories
from glmserve.hub.name import HubName
from glmserve.hub.places import hub_places
from glmserve.model_config.names import model_name
from support.forbidden import forbid

COMMITS = ("0" * 39 + "1", "a" * 40)


def name(text: str) -> HubName:
    found = parse_name(text)
    assert found is not None
    return found


def fill(folder: Path, *names: str) -> Path:
    """Write what makes a model complete, or these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in names or ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / file).write_text("{}")
    return folder


def hf_snapshot(cache: Path, model: str, commit: str, *names: str) -> Path:
    """A snapshot as huggingface_hub makes it: links into blobs."""
    folder = cache / f"models--{model.replace('/', '--')}"
    blobs = fill(folder / "blobs", *names)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def set_ref(snapshot: Path, ref: str) -> None:
    path = snapshot.parent.parent / "refs" / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(snapshot.name)


@pytest.fixture
def places(tmp_path: Path) -> HubPlaces:
    return hub_places({"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})


class TestHuggingFace:
    def test_revisions(self, places: HubPlaces) -> None:
        old, new = (hf_snapshot(places.hf_cache, "zai-org/m", c) for c in COMMITS)
        set_ref(new, "main")
        set_ref(old, "v1.0")
        set_ref(old, "refs/pr/1")
        assert find(name("zai-org/m"), places) == new
        assert find(name("hf://zai-org/m@main"), places) == new
        for revision in ("v1.0", "refs/pr/1", COMMITS[0], COMMITS[0][:10]):
            assert find(name(f"zai-org/m@{revision}"), places) == old, revision
        for revision in ("v2.0", "0", "b" * 40):
            assert find(name(f"zai-org/m@{revision}"), places) is None, revision

    @pytest.mark.parametrize(("stored", "asked"), [("THUDM", "zai-org"), ("zai-org", "THUDM")])
    def test_old_names(self, places: HubPlaces, stored: str, asked: str) -> None:
        snapshot = hf_snapshot(places.hf_cache, f"{stored}/chatglm3-6b", COMMITS[0])
        set_ref(snapshot, "main")
        assert resolve(name(f"{asked}/chatglm3-6b"), places) == snapshot

    def test_a_copy_without_refs(self, places: HubPlaces) -> None:
        snapshot = hf_snapshot(places.hf_cache, "a/m", COMMITS[0])
        assert find(name("a/m"), places) == snapshot
        hf_snapshot(places.hf_cache, "a/m", COMMITS[1])
        assert find(name("a/m"), places) is None

    def test_a_ref_that_leads_out_of_the_cache(self, places: HubPlaces) -> None:
        snapshot = hf_snapshot(places.hf_cache, "a/m", COMMITS[0])
        set_ref(snapshot, "main")
        (snapshot.parent.parent / "refs" / "main").write_text("../../../../etc")
        assert find(name("a/m"), places) in (None, snapshot)

    def test_incomplete(self, places: HubPlaces) -> None:
        snapshot = hf_snapshot(places.hf_cache, "a/m", COMMITS[0])
        set_ref(snapshot, "main")
        (snapshot.parent.parent / "blobs" / "model.safetensors").unlink()
        assert missing_files(snapshot) == ["model.safetensors"]
        with pytest.raises(CheckpointError) as caught:
            resolve(name("a/m"), places)
        assert "the model a/m is not complete: model.safetensors missing" in caught.value.message
        assert "this machine is offline" in caught.value.message
        complete = fill(places.modelscope[1] / "a" / "m")
        assert resolve(name("a/m"), places) == complete

    def test_shards(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "m", "config.json", "tokenizer.model")
        shards = {f"layer.{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": shards}))
        assert missing_files(folder) == sorted(shards.values())
        for shard in shards.values():
            (folder / shard).touch()
        assert missing_files(folder) == []
        assert missing_files(tmp_path / "nothing")[0] == "config.json"


class TestModelScope:
    @pytest.mark.parametrize(
        "place",
        [
            "hub/models/ZhipuAI/GLM-4___1",
            "hub/models/ZhipuAI/GLM-4.1",
            "hub/ZhipuAI/GLM-4___1",
            "models/ZhipuAI/GLM-4.1",
            "ZhipuAI/GLM-4.1",
            "models/ZhipuAI--GLM-4.1/snapshots/master",
            "models/ZhipuAI--GLM-4.1/snapshots/main",
            "hub/models/ZhipuAI--GLM-4.1/snapshots/v1.0",
        ],
    )
    @pytest.mark.parametrize("asked", ["ZhipuAI/GLM-4.1", "ms://ZhipuAI/GLM-4.1", "THUDM/GLM-4.1"])
    def test_layouts(self, tmp_path: Path, place: str, asked: str) -> None:
        root = tmp_path / "cache"
        folder = fill(root / place)
        places = hub_places({"HOME": str(tmp_path), "MODELSCOPE_CACHE": str(root)})
        assert resolve(name(asked), places) == folder
        default = hub_places({"HOME": str(tmp_path)})
        assert find(name(asked), default) is None
        fill(tmp_path / ".cache" / "modelscope" / place)
        assert resolve(name(asked), default) == tmp_path / ".cache" / "modelscope" / place

    def test_revisions(self, places: HubPlaces) -> None:
        folder = fill(places.modelscope[0] / "a" / "m")
        (folder / ".mv").write_text("Revision:v1.0,CreatedAt:1717")
        assert find(name("ms://a/m"), places) == folder
        assert find(name("ms://a/m@v1.0"), places) == folder
        assert find(name("ms://a/m@master"), places) is None
        assert find(name("hf://a/m"), places) is None

    def test_snapshots(self, places: HubPlaces) -> None:
        """Those of modelscope_hub 0.5 have a folder for each revision."""
        parent = places.modelscope[1] / "a--m" / "snapshots"
        old, new = fill(parent / "v1.0"), fill(parent / "v2.0")
        assert find(name("ms://a/m@v1.0"), places) == old
        assert find(name("ms://a/m@v2.0"), places) == new
        assert find(name("ms://a/m"), places) is None
        assert find(name("ms://a/m@x/y"), places) is None
        fill(parent / "x" / "y")
        assert find(name("ms://a/m@x/y"), places) == parent / "x" / "y"
        main = fill(parent / "master")
        assert find(name("ms://a/m"), places) == main
        assert model_name(main) == "m"
        fill(places.modelscope[0] / "a" / "b___c")
        assert [str(found) for found, _ in repositories(places.modelscope)] == [
            "ms://a/b.c",
            "ms://a/m",
            "ms://a/m@v1.0",
            "ms://a/m@v2.0",
        ]

    def test_an_incomplete_one_is_passed_over(self, places: HubPlaces) -> None:
        fill(places.modelscope[0] / "a" / "m", "config.json")
        complete = fill(places.modelscope[1] / "a--m" / "snapshots" / "master")
        assert find(name("ms://a/m"), places) == complete

    @pytest.mark.parametrize(
        ("environment", "first"),
        [
            ({}, "/home/u/.cache/modelscope/hub/models"),
            ({"MODELSCOPE_CACHE": "~/ms"}, "/home/u/ms/models"),
            ({"MODELSCOPE_CACHE": "${HOME}/ms"}, "/home/u/ms/models"),
        ],
    )
    def test_every_version_of_modelscope_looks_in_the_first(
        self, environment: dict[str, str], first: str
    ) -> None:
        assert hub_places({"HOME": "/home/u", **environment}).modelscope[0] == Path(first)

    def test_endpoints(self) -> None:
        def endpoint(**environment: str) -> str:
            return hub_places({"HOME": "/h", **environment}).modelscope_endpoint

        assert endpoint() == "https://www.modelscope.cn"
        assert endpoint(MODELSCOPE_DOMAIN="a.cn") == "https://a.cn"
        assert endpoint(MODELSCOPE_DOMAIN="a.cn", MODELSCOPE_ENDPOINT="http://b/") == "http://b"

    def test_pickles_are_not_read(self, places: HubPlaces) -> None:
        folder = fill(places.modelscope[0] / "a" / "m")
        (folder / ".msc").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        assert find(name("ms://a/m"), places) == folder


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"HF_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HUB_CACHE": "~/c"}, "/home/u/c"),
        ({"HF_HUB_CACHE": "$HF_HOME/x", "HF_HOME": "/h"}, "/h/x"),
        ({"HF_HOME": "${HOME}/h"}, "/home/u/h/hub"),
        ({"HF_HOME": "~"}, "/home/u/hub"),
        ({"HF_HOME": "~nosuchuser/$NOSUCHVARIABLE"}, "~nosuchuser/$NOSUCHVARIABLE/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/d", "HF_HOME": "/h"}, "/d"),
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({}, "/home/u/.cache/huggingface/hub"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], cache: str) -> None:
    assert hub_places({"HOME": "/home/u", **environment}).hf_cache == Path(cache)


def test_it_is_where_huggingface_hub_looks(tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the hub extra")
    assert hub_places(os.environ).hf_cache == Path(constants.HF_HUB_CACHE)


@pytest.fixture
def read_only(places: HubPlaces) -> Iterator[HubPlaces]:
    """Caches in which nothing can be written, and which tell if something was."""
    snapshot = hf_snapshot(places.hf_cache, "a/m", COMMITS[0])
    set_ref(snapshot, "main")
    root = places.hf_cache.parent
    folders = [path for path in (root, *root.rglob("*")) if path.is_dir() and not path.is_symlink()]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}
    yield places
    assert {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")} == before
    for folder in folders:
        folder.chmod(0o755)


def test_reading_needs_no_package_and_writes_nothing(
    read_only: HubPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert resolve(name("a/m"), read_only).name == COMMITS[0]


@pytest.mark.parametrize("locked", ["models--a--m", "models--a--m/snapshots", "models--a--m/refs"])
def test_folders_of_other_users_are_passed_over(
    places: HubPlaces, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    for model in ("a/m", "a/n"):
        set_ref(hf_snapshot(places.hf_cache, model, COMMITS[0]), "main")
    copy = fill(places.modelscope[1] / "a" / "m")
    forbid(monkeypatch, places.hf_cache / locked)
    forbid(monkeypatch, fill(places.modelscope[0] / "a" / "m"))
    if not locked.endswith("refs"):
        assert resolve(name("a/m"), places) == copy
    listed = [model.name for model in cached_models(places, 0)]
    assert "a/n" in listed
    assert "ms://a/m" in listed


def test_what_is_not_there(places: HubPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve(name("models/mine"), places)
    assert caught.value.message.startswith("models/mine: no such file or folder, and no model of")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    online = hub_places({"HOME": str(places.hf_cache.parents[2])})
    with pytest.raises(CheckpointError, match=r"no such file or folder; .*glmserve\[hub\]"):
        resolve(name("models/mine"), online)


def test_what_is_fetched() -> None:
    def needed(*paths: str) -> set[str]:
        return {file.path for file in needed_files(RepositoryFile(path, 1) for path in paths)}

    code = ("modeling_chatglm.py", "quantization.py", "setup.cfg", ".gitattributes", "onnx/m.onnx")
    small = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.model")
    bins = ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json")
    tensors = ("model-00001-of-00002.safetensors", "model.safetensors.index.json")
    assert needed(*code, *small, *bins, *tensors, "LICENSE") == {*small, *tensors, "LICENSE"}
    assert needed("LICENSE*", "LICENSE?py", "LICENSE.py", "LICENSE/x", "LICENSE.md") == {
        "LICENSE.md"
    }
    assert needed(*code, *small, *bins, "optimizer.pt", "training_args.bin") == {*small, *bins}
    templates = (
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "ice_text.model",
    )
    assert needed(*templates, "README.md", "figures/a.png") == set(templates)
    adapter = ("adapter_config.json", "adapter_model.safetensors")
    assert needed(*adapter) == set(adapter)
