"""A user's own model class: where it is looked for, what is said where it is not found, and what it may do."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ladle.errors import BadModel, UserError
from ladle.server.options import ServerOptions
from runtimes.pyserver import imports
from runtimes.pyserver.__main__ import build_models, split_script
from runtimes.pyserver.model import PythonModel
from runtimes.pyserver.requirements import unmet
from tests.ladle.server.serving import served, tensor
from tests.runtimes.processes import environment, serving

DOUBLER = """
    from ladle import Model

    class Doubler(Model):
        def predict(self, request):
            return request.as_array() * 2
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Nothing of a test's models stays importable after it."""
    path, modules, packages = list(sys.path), set(sys.modules), dict(imports._packages)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("_ladle_model_") or name in ("model", "parts", "shapes", "boxes", "boxes.round"):
            del sys.modules[name]
    imports._packages.clear()
    imports._packages.update(packages)


def write(directory: Path, text: str, name: str = "model.py") -> Path:
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(dedent(text))
    return directory


def models(directory: Path, *flags: str) -> list[PythonModel]:
    argv = [f"--model_dir={directory}", "--model_name=mine", *flags]
    built = build_models(ServerOptions.parse(argv, {}), argv)
    assert all(isinstance(model, PythonModel) for model in built)
    return built  # type: ignore[return-value]


async def answer(directory: Path, *flags: str) -> Any:
    async with served(*models(directory, *flags)) as app:
        found = await app.v1("mine", {"instances": [[1.0, 2.0]]})
        return json.loads(found.body)


async def refusal(directory: Path, *flags: str) -> str:
    (model,) = models(directory, *flags)
    with pytest.raises(BadModel) as caught:
        await model.load()
    return str(caught.value)


class TestWhereItIs:
    async def test_the_only_model_of_model_py(self, tmp_path: Path) -> None:
        assert await answer(write(tmp_path, DOUBLER)) == {"predictions": [[2.0, 4.0]]}

    async def test_a_base_class_of_the_file_is_not_the_model(self, tmp_path: Path) -> None:
        text = (
            DOUBLER
            + "\n    class Negative(Doubler):\n        def postprocess(self, result, request):\n            return -result\n"
        )
        assert await answer(write(tmp_path, text)) == {"predictions": [[-2.0, -4.0]]}

    async def test_a_class_that_model_py_imports(self, tmp_path: Path) -> None:
        write(tmp_path, DOUBLER, "parts.py")
        assert await answer(write(tmp_path, "from .parts import Doubler")) == {"predictions": [[2.0, 4.0]]}

    async def test_a_class_by_name_in_a_package_of_the_directory(self, tmp_path: Path) -> None:
        write(tmp_path, "", "boxes/__init__.py")
        write(tmp_path, DOUBLER, "boxes/round.py")
        assert await answer(tmp_path, "--model-class=boxes.round:Doubler") == {"predictions": [[2.0, 4.0]]}

    async def test_each_folder_is_a_model_with_files_of_its_own(self, tmp_path: Path) -> None:
        for name, factor in (("two", 2), ("three", 3)):
            write(tmp_path / name, "from .parts import F\n" + dedent(DOUBLER).replace("* 2", "* F"))
            write(tmp_path / name, f"F = {factor}", "parts.py")
        async with served(*models(tmp_path)) as app:
            found = [json.loads((await app.v1(name, {"instances": [1]})).body) for name in ("two", "three")]
            assert found == [{"predictions": [2]}, {"predictions": [3]}]
            assert (await app.v1("mine", {"instances": [1]})).status == 404

    async def test_it_knows_its_name_and_its_directory(self, tmp_path: Path) -> None:
        text = """
            import ladle

            class Reader(ladle.Model):
                def __init__(self, name, model_dir, size=3):
                    super().__init__(name)
                    self.given = model_dir

                def load(self):
                    self.text = (self.directory / "words.txt").read_text()

                def predict(self, request):
                    return {"name": self.name, "text": self.text, "same": self.given == str(self.directory)}
        """
        write(tmp_path, "hello", "words.txt")
        assert await answer(write(tmp_path, text)) == {"name": "mine", "text": "hello", "same": True}


class TestRefusals:
    async def test_no_file(self, tmp_path: Path) -> None:
        write(tmp_path, "", "weights.txt")
        assert await refusal(tmp_path) == (
            f"no model.py in {tmp_path}: found weights.txt; or name the class with --model_class"
        )
        assert await refusal(tmp_path / "none") == f"{tmp_path / 'none'} is no directory"

    async def test_no_class(self, tmp_path: Path) -> None:
        write(tmp_path, "from pathlib import Path\nclass Thing: pass\nclass Other: pass")
        assert await refusal(tmp_path) == (
            f"{tmp_path}/model.py has no subclass of ladle.Model or kserve.Model: found the classes Other, Thing"
        )
        assert (await refusal(write(tmp_path, "x = 1"))).endswith("found no class")

    async def test_several_classes(self, tmp_path: Path) -> None:
        write(tmp_path, "from ladle import Model\nclass A(Model): pass\nclass B(Model): pass")
        assert "has several models: A, B; say which one with --model_class model:A" in await refusal(tmp_path)
        assert await answer(tmp_path, "--model_class=model:B") == {"error": "B defines no predict"}

    async def test_a_class_that_is_not_there_or_no_model(self, tmp_path: Path) -> None:
        write(tmp_path, "class Thing(dict): pass", "shapes.py")
        assert await refusal(tmp_path, "--model_class=shapes:Box") == (
            "there is no class Box in module shapes, which has the classes Thing"
        )
        assert await refusal(tmp_path, "--model_class=shapes:Thing") == (
            "the class Thing is no subclass of ladle.Model or kserve.Model: it extends dict"
        )

    @pytest.mark.parametrize("flag", ["--model_class=shapes", "--model_class=:Box", "--model_class=shapes:"])
    def test_a_class_that_is_half_named(self, tmp_path: Path, flag: str) -> None:
        with pytest.raises(UserError, match="must be MODULE:CLASS"):
            models(tmp_path, flag)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("import no_such_module_x", "ModuleNotFoundError: No module named 'no_such_module_x' (model.py line 1)"),
            ("x = 1\ny = x / 0", "ZeroDivisionError: division by zero (model.py line 2)"),
            ("raise SystemExit(3)", "SystemExit: 3 (model.py line 1)"),
            ("def broken(:", "SyntaxError: invalid syntax (model.py, line 1)"),
        ],
    )
    async def test_code_that_fails_when_it_is_imported(self, tmp_path: Path, text: str, said: str) -> None:
        assert await refusal(write(tmp_path, text)) == f"{tmp_path}/model.py could not be imported: {said}"

    async def test_a_constructor_that_needs_what_nobody_knows(self, tmp_path: Path) -> None:
        text = "from ladle import Model\nclass M(Model):\n    def __init__(self, name, depth): pass"
        assert "M() needs depth, which the server does not know: give it a default" in await refusal(
            write(tmp_path, text)
        )

    async def test_requirements_that_are_not_met(self, tmp_path: Path) -> None:
        write(write(tmp_path, DOUBLER), "no-such-package-x>=2\nnumpy>=1\n", "requirements.txt")
        assert (
            "asks for what the server's environment has not: no-such-package-x>=2 (not installed); "
            in await refusal(tmp_path)
        )

    async def test_two_models_with_one_name_for_two_files(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write(tmp_path / name, "import parts" + DOUBLER.replace("\n    ", "\n"))
            write(tmp_path / name, "", "parts.py")
        first, second = models(tmp_path)
        await first.load()
        with pytest.raises(
            BadModel, match=r"one process has one module parts: import it as `from \. import parts` in both"
        ):
            await second.load()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy", []),
        ("numpy>=2,<3  # numbers", []),
        ("numpy<2", ["numpy<2 (2.5 is installed)"]),
        ("torch==2.13.0", ["torch==2.13.0 (not installed)"]),
        ("torch; python_version < '3'", []),
        ("", []),
        ("# torch", []),
        ("--index-url https://example.com", []),
        ("-r other.txt", []),
        ("numpy[extra]>=2", []),
    ],
)
def test_requirements(line: str, expected: list[str]) -> None:
    assert unmet([line], {"numpy": "2.5"}.get) == expected


def test_a_line_that_is_no_requirement() -> None:
    with pytest.raises(BadModel, match="'what is this' is no requirement"):
        unmet(["what is this"], {}.get)


class TestLife:
    async def test_loading_again_reads_the_code_again(self, tmp_path: Path) -> None:
        write(tmp_path, "import parts\n" + dedent(DOUBLER).replace("* 2", "* parts.F"))
        write(tmp_path, "F = 2", "parts.py")
        async with served(*models(tmp_path)) as app:
            assert json.loads((await app.v1("mine", {"instances": [1]})).body) == {"predictions": [2]}
            write(tmp_path, "F = 5", "parts.py")
            assert (await app.post("/v2/repository/models/mine/unload", {})).status == 200
            assert (await app.v1("mine", {"instances": [1]})).status == 503
            assert (await app.post("/v2/repository/models/mine/load", {})).status == 200
            assert json.loads((await app.v1("mine", {"instances": [1]})).body) == {"predictions": [5]}

    async def test_code_that_broke_meanwhile_is_said_to_who_loads_it(self, tmp_path: Path) -> None:
        async with served(*models(write(tmp_path, DOUBLER))) as app:
            write(tmp_path, "1 / 0")
            found = await app.post("/v2/repository/models/mine/load", {})
            assert found.status == 503
            assert "ZeroDivisionError: division by zero (model.py line 1)" in json.loads(found.body)["error"]

    async def test_it_says_itself_what_it_takes_and_whether_it_is_well(self, tmp_path: Path) -> None:
        text = """
            from ladle import Model
            from ladle.protocol.messages import ModelMetadata, TensorMetadata

            class Full(Model):
                thread_safe = True

                async def load(self):
                    self.calls = 0

                async def predict(self, request):
                    self.calls += 1
                    return request.as_array()

                def healthy(self):
                    return self.calls == 0

                def metadata(self):
                    return ModelMetadata(name=self.name, inputs=(TensorMetadata("x", "FP32", (-1, 4)),))
        """
        async with served(*models(write(tmp_path, text))) as app:
            assert json.loads((await app.get("/v2/models/mine")).body)["inputs"][0]["shape"] == [-1, 4]
            body = {"inputs": [tensor("x", "FP32", [1], [1.0])]}
            assert (await app.v2("mine", body)).status == 200
            assert (await app.v2("mine", body)).status == 503

    def test_nothing_is_written_beside_the_code(self, tmp_path: Path) -> None:
        write(tmp_path, "", "parts.py")
        asyncio.run(answer(write(tmp_path, "import parts\n" + dedent(DOUBLER))))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.py", "parts.py"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], None),
        (["--model_name=a"], None),
        (["--kserve", "s.py", "--a=1"], ("s.py", ["--a=1"])),
        (["--kserve=s.py", "--a", "1"], ("s.py", ["--a", "1"])),
        (["--a", "1", "--kserve", "s.py", "--b"], ("s.py", ["--a", "1", "--b"])),
        (["--a", "--kserve"], (".", ["--a"])),
    ],
)
def test_the_flags_of_a_script(argv: list[str], expected: tuple[str, list[str]] | None) -> None:
    found = split_script(argv)
    assert (None if found is None else (str(found[0]), found[1])) == expected


class TestAsAProcess:
    def test_it_serves_until_it_is_told_to_stop_and_lets_its_model_go(self, tmp_path: Path) -> None:
        unload = "    def unload(self):\n            (self.directory / 'gone').write_text('yes')\n"
        write(tmp_path / "code", f"{DOUBLER}    {unload}")
        with serving(["-m", "runtimes.pyserver", f"--model_dir={tmp_path / 'code'}"], tmp_path / "run") as server:
            assert '"model loaded"' in server.log.read_text()
            assert not (tmp_path / "code" / "gone").exists()
        assert (tmp_path / "code" / "gone").read_text() == "yes"

    def test_a_model_that_fails_to_let_go_does_not_keep_the_server(self, tmp_path: Path) -> None:
        write(tmp_path / "code", f"{DOUBLER}        def unload(self):\n            raise ValueError('never')\n")
        with serving(["-m", "runtimes.pyserver", f"--model_dir={tmp_path / 'code'}"], tmp_path / "run") as server:
            pass
        assert "model not unloaded" in server.log.read_text()

    def test_its_last_words_name_the_class_that_is_missing(self, tmp_path: Path) -> None:
        write(tmp_path, "class Thing: pass")
        words = tmp_path / "words"
        env = environment(LADLE_TERMINATION_LOG=str(words), LADLE_HTTP_PORT="0")
        command = [sys.executable, "-m", "runtimes.pyserver", f"--model_dir={tmp_path}"]
        assert subprocess.run(command, env=env, capture_output=True, timeout=60).returncode == 1
        assert "has no subclass of ladle.Model or kserve.Model: found the classes Thing" in words.read_text()

    @pytest.mark.skipif(importlib.util.find_spec("kserve") is not None, reason="kserve is installed here")
    def test_a_script_without_kserve_says_what_to_install(self, tmp_path: Path) -> None:
        script, words = tmp_path / "script.py", tmp_path / "words"
        script.write_text("import kserve")
        env = environment(LADLE_TERMINATION_LOG=str(words))
        command = [sys.executable, "-m", "runtimes.pyserver", "--kserve", str(script)]
        assert subprocess.run(command, env=env, capture_output=True, timeout=60).returncode == 1
        assert "needs the kserve package in the server's environment: pip install kserve" in words.read_text()

    @pytest.mark.parametrize("flags", [["--kserve"], ["--kserve", "none.py"], ["--kserve=none.py"]])
    def test_a_script_that_is_not_there(self, tmp_path: Path, flags: list[str]) -> None:
        words = tmp_path / "words"
        env = environment(LADLE_TERMINATION_LOG=str(words))
        command = [sys.executable, "-m", "runtimes.pyserver", *flags]
        assert subprocess.run(command, env=env, capture_output=True, timeout=60).returncode == 1
        assert "--kserve takes the script that calls kserve.ModelServer().start" in words.read_text()
