"""Files that the PyTorch runtime cannot serve, and what it says; code that it runs, and where it may not."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; .ci/test-torch installs it where it can be had")

from ladle.errors import BadModel  # noqa: E402  # They need torch.
from runtimes.pytorchserver.files import decide_kind  # noqa: E402
from runtimes.pytorchserver.model import TorchModel  # noqa: E402
from runtimes.pytorchserver.settings import TorchSettings  # noqa: E402
from tests.runtimes.torch_models import save_export, save_script, save_weights  # noqa: E402

SOURCE = """
import torch

class PyTorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)
"""


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)


def load(directory: Path, **settings: Any) -> TorchModel:
    model = TorchModel("m", directory, settings=TorchSettings(**settings))
    model.load()
    return model


class TestWrongFiles:
    def test_several_are_named(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        (tmp_path / "other.pth").touch()
        with pytest.raises(BadModel, match=r"more than one model file .*: model\.pt, other\.pth"):
            load(tmp_path)

    def test_what_is_no_file_of_pytorch_says_how_to_make_one(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(b"hello")
        with pytest.raises(BadModel, match=r"model\.pt is no file of PyTorch.*torch\.jit\.save .* or its state_dict"):
            load(tmp_path)
        with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
            archive.writestr("photo.png", b"")
        with pytest.raises(BadModel, match="is an archive, but none that PyTorch wrote"):
            load(tmp_path)

    def test_native_code_is_refused(self) -> None:
        with pytest.raises(BadModel, match="AOTInductor"):
            decide_kind("m.pt2", ["m/archive_format", "m/data/aotinductor/model/x.so"])

    def test_an_archive_that_is_cut_off_is_refused(self, tmp_path: Path) -> None:
        save_script(torch.nn.Sequential(torch.nn.Linear(2, 1)), tmp_path)
        whole = (tmp_path / "model.pt").read_bytes()
        (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadModel, match="or it is cut off"):
            load(tmp_path)

    def test_the_newest_of_tritons_folders_counts(self, tmp_path: Path) -> None:
        for version in ("1", "10"):
            save_script(torch.nn.Sequential(torch.nn.Linear(2, int(version))), tmp_path / version)
        weights = load(tmp_path)._program.module.state_dict()["0.weight"]  # type: ignore[union-attr]
        assert weights.shape == (10, 2)

    def test_the_directory_may_be_the_file_itself(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        assert load(tmp_path / "model.pt").metadata().properties["archive"] == "state_dict"


class TestWeights:
    def test_the_class_is_found_by_its_name(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE.replace("PyTorchModel", "Net"))
        assert load(tmp_path, model_class="Net").metadata().inputs[0].name == "x"
        with pytest.raises(
            BadModel, match=r"no torch\.nn\.Module named PyTorchModel, it has Net; say which with --model_class_name"
        ):
            load(tmp_path)

    def test_old_files_of_torch_save_are_read(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        torch.save(Net().state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=False)
        assert load(tmp_path).metadata().properties["archive"] == "state_dict"

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (None, "holds weights alone .*: put a .py file with their class beside it"),
            (
                "import nothing_of_that_name",
                "net.py could not be imported: ModuleNotFoundError: .*nothing_of_that_name",
            ),
            (SOURCE.replace("(self):", "(self, width):"), r"PyTorchModel\(\) raised TypeError: .*without arguments"),
            (SOURCE.replace("4, 3", "4, 5"), "does not fit the class in net.py: .*size mismatch for layer.weight"),
        ],
    )
    def test_a_class_that_does_not_fit_says_why(self, tmp_path: Path, source: str | None, expected: str) -> None:
        save_weights(Net(), tmp_path, source or "")
        if source is None:
            (tmp_path / "net.py").unlink()
        with pytest.raises(BadModel, match=expected):
            load(tmp_path)

    def test_several_classes_files_are_named(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        (tmp_path / "again.py").write_text(SOURCE)
        with pytest.raises(BadModel, match=r"more than one \.py file .*: again\.py, net\.py"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("held", "expected"),
        [
            ({"epoch": 3, "model": {}}, "holds epoch, model, expected a state_dict"),
            (torch.ones(2), "holds Tensor, expected a state_dict"),
        ],
    )
    def test_something_else_than_weights_is_named(self, tmp_path: Path, held: Any, expected: str) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        torch.save(held, tmp_path / "model.pt")
        with pytest.raises(BadModel, match=expected):
            load(tmp_path)

    def test_nothing_is_written_into_the_models_directory(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        load(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "net.py"]


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class TestCode:
    def test_weights_are_read_without_running_what_is_pickled_with_them(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, SOURCE)
        torch.save({"layer.weight": Evil(tmp_path / "ran")}, tmp_path / "model.pt")
        with pytest.raises(BadModel, match=r"holds more than weights.*save model\.state_dict\(\)"):
            load(tmp_path)
        assert not (tmp_path / "ran").exists()

    def test_a_class_file_does_not_run_where_code_is_not_allowed(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path, f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{SOURCE}")
        with pytest.raises(BadModel, match=r"needs net\.py, which is code .* LADLE_ALLOW_PICKLE is false"):
            load(tmp_path, allow_code=False)
        assert not (tmp_path / "ran").exists()
        load(tmp_path)
        assert (tmp_path / "ran").exists()

    def test_an_export_archive_may_hold_code_and_is_refused_too(self, tmp_path: Path) -> None:
        save_export(torch.nn.Linear(2, 1), tmp_path, (torch.ones(1, 2),))
        with pytest.raises(BadModel, match=r"archive of torch\.export.*LADLE_ALLOW_PICKLE is false"):
            load(tmp_path, allow_code=False)

    def test_torchscript_is_served_where_code_is_not_allowed(self, tmp_path: Path) -> None:
        save_script(torch.nn.Sequential(torch.nn.Linear(2, 1)), tmp_path)
        load(tmp_path, allow_code=False)

    def test_a_class_answers_one_request_at_a_time(self, tmp_path: Path) -> None:
        save_weights(Net(), tmp_path / "class", SOURCE)
        save_script(torch.nn.Sequential(torch.nn.Linear(2, 1)), tmp_path / "script")
        assert not TorchModel("m", tmp_path / "class").thread_safe
        assert TorchModel("m", tmp_path / "script").thread_safe
