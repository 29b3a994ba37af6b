"""Which paths are rewritten, and which only look alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.base.errors import UserError
from onebox.node.mounts import PathRewriter, build_mount_paths, build_volume_paths
from tests.onebox.node.builders import container, pod

REWRITER = PathRewriter({"/mnt/models": "/p/models", "/mnt/models/extra": "/p/extra", "/cache": "/p/cache"})


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/mnt/models", "/p/models"),
        ("/mnt/models/", "/p/models/"),
        ("/mnt/models/iris/1", "/p/models/iris/1"),
        ("--model_dir=/mnt/models", "--model_dir=/p/models"),
        ("file:///mnt/models/iris", "file:///p/models/iris"),
        ("/cache:/mnt/models,/mnt/models/extra/x", "/p/cache:/p/models,/p/extra/x"),
        ('{"dir": "/mnt/models"}', '{"dir": "/p/models"}'),
        ("/mnt/models-2", "/mnt/models-2"),
        ("/mnt/models.bak", "/mnt/models.bak"),
        ("/srv/mnt/models", "/srv/mnt/models"),
        ("s3://bucket/mnt/models", "s3://bucket/mnt/models"),
        ("http://host/cache", "http://host/cache"),
        ("mnt/models", "mnt/models"),
        ("/mnt/modelsx /cached", "/mnt/modelsx /cached"),
    ],
)
def test_a_path_is_rewritten_where_it_stands_alone(text: str, rewritten: str) -> None:
    assert REWRITER.text(text) == rewritten


def test_nothing_mounted_changes_nothing() -> None:
    assert PathRewriter({}).texts(["/mnt/models"]) == ("/mnt/models",)


VOLUMES = [
    {"name": "model", "emptyDir": {}},
    {"name": "claim", "persistentVolumeClaim": {"claimName": "disk"}},
    {"name": "host", "hostPath": {"path": "/srv/data"}},
]


def test_volumes_have_their_places() -> None:
    paths = build_volume_paths(pod(volumes=VOLUMES), volumes=Path("/home/pods/u/volumes"), claims=Path("/home/volumes"))
    assert paths == {
        "model": Path("/home/pods/u/volumes/model"),
        "claim": Path("/home/volumes/default/disk"),
        "host": Path("/srv/data"),
    }


def test_a_volume_that_this_machine_has_not_is_refused_by_its_kind() -> None:
    with pytest.raises(UserError, match='volume "share" is of kind nfs; this node has emptyDir'):
        build_volume_paths(pod(volumes=[{"name": "share", "nfs": {}}]), volumes=Path("/v"), claims=Path("/c"))


def test_mounts_go_below_their_volume() -> None:
    mounts = [
        {"name": "model", "mountPath": "/mnt/models", "subPath": "a/b"},
        {"name": "model", "mountPath": "/by/name/", "subPathExpr": "$(POD_NAME)"},
        {"name": "model", "mountPath": "/"},
    ]
    made = pod(container(volumeMounts=mounts), volumes=VOLUMES).containers[0]
    paths = build_mount_paths(made, {"model": Path("/v")}, {"POD_NAME": "pod-1"})
    assert paths == {"/mnt/models": "/v/a/b", "/by/name": "/v/pod-1"}


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"name": "model", "mountPath": "/m", "subPath": "../other"}, "must stay inside the volume"),
        ({"name": "model", "mountPath": "/m", "subPathExpr": "/etc"}, "must stay inside the volume"),
        ({"name": "nobody", "mountPath": "/m"}, "the pod has no such volume"),
    ],
)
def test_a_mount_cannot_leave_its_volume(mount: dict[str, str], message: str) -> None:
    made = pod(container(volumeMounts=[mount])).containers[0]
    with pytest.raises(UserError, match=message):
        build_mount_paths(made, {"model": Path("/v")}, {})
