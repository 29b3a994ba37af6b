"""What volumes hold, on a real file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.base.errors import UserError
from onebox.node.environment import Surroundings
from onebox.node.mounts import build_volume_paths
from onebox.node.spec import Pod, SourceKind
from onebox.node.volumes import materialise
from tests.onebox.node.builders import pod

AROUND = Surroundings(
    objects={
        (SourceKind.CONFIG_MAP, "settings"): {"a.conf": b"a", "b.conf": b"b"},
        (SourceKind.SECRET, "keys"): {"token": b"s3cret"},
        (SourceKind.SECRET, "absent"): None,
    },
    cpus=1,
    memory_bytes=1,
)


def make(root: Path, *volumes: dict[str, Any], around: Surroundings = AROUND) -> Pod:
    made = pod(volumes=list(volumes))
    materialise(made, build_volume_paths(made, volumes=root, claims=root / "claims"), around)
    return made


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_each_key_is_a_file(tmp_path: Path) -> None:
    make(tmp_path, {"name": "v", "configMap": {"name": "settings"}})
    assert files(tmp_path) == {"v/a.conf": "a", "v/b.conf": "b"}


def test_items_choose_keys_and_names(tmp_path: Path) -> None:
    items = [{"key": "a.conf", "path": "deep/x", "mode": 0o400}]
    make(tmp_path, {"name": "v", "configMap": {"name": "settings", "items": items}})
    assert files(tmp_path) == {"v/deep/x": "a"}
    assert (tmp_path / "v/deep/x").stat().st_mode & 0o777 == 0o400


def test_a_secret_is_for_its_owner_whatever_its_mode_says(tmp_path: Path) -> None:
    make(tmp_path, {"name": "v", "secret": {"secretName": "keys", "defaultMode": 0o644}})
    assert files(tmp_path) == {"v/token": "s3cret"}
    assert (tmp_path / "v/token").stat().st_mode & 0o777 == 0o600


def test_a_projected_volume_puts_sources_together(tmp_path: Path) -> None:
    field = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    sources = [
        {"secret": {"name": "keys"}},
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": [field]}},
        {"serviceAccountToken": {"path": "token2"}},
    ]
    make(tmp_path, {"name": "v", "projected": {"sources": sources}})
    assert files(tmp_path) == {"v/token": "s3cret", "v/a.conf": "a", "v/b.conf": "b", "v/name": "pod"}


def test_what_changed_is_replaced_and_what_a_container_wrote_stays(tmp_path: Path) -> None:
    volume = {"name": "v", "configMap": {"name": "settings"}}
    make(tmp_path, volume, {"name": "empty", "emptyDir": {}})
    (tmp_path / "empty/written").write_text("x")
    newer = Surroundings(objects={(SourceKind.CONFIG_MAP, "settings"): {"a.conf": b"new"}}, cpus=1, memory_bytes=1)
    make(tmp_path, volume, {"name": "empty", "emptyDir": {}}, around=newer)
    assert files(tmp_path)["v/a.conf"] == "new"
    assert files(tmp_path)["empty/written"] == "x"


def test_a_claim_is_a_directory_that_outlives_the_pod(tmp_path: Path) -> None:
    make(tmp_path, {"name": "v", "persistentVolumeClaim": {"claimName": "disk"}})
    assert (tmp_path / "claims/default/disk").is_dir()


def test_a_host_path_is_made_only_where_its_type_says_so(tmp_path: Path) -> None:
    make(tmp_path, {"name": "v", "hostPath": {"path": str(tmp_path / "new"), "type": "DirectoryOrCreate"}})
    assert (tmp_path / "new").is_dir()
    with pytest.raises(UserError, match="is not there"):
        make(tmp_path, {"name": "v", "hostPath": {"path": str(tmp_path / "other")}})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secret": {"secretName": "absent"}}, 'MountVolume.SetUp failed for volume "v" : secret "absent" not found'),
        (
            {"configMap": {"name": "settings", "items": [{"key": "c", "path": "c"}]}},
            "configmap references non-existent config key: c",
        ),
        ({"configMap": {"name": "settings", "items": [{"key": "a.conf", "path": "../x"}]}}, "must stay inside"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, {"name": "v", **source})


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    make(tmp_path, {"name": "v", "secret": {"secretName": "absent", "optional": True}})
    assert files(tmp_path) == {}
