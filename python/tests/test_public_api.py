"""The list of names, and what the package says of itself."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pymq
from pymq._original import original_beside, warn_of_original

MODULES = [
    "pymq",
    "pymq.aio",
    "pymq.core",
    "pymq.exceptions",
    "pymq.json",
    "pymq.otel",
    "pymq.prometheus",
    "pymq.provider",
    "pymq.provider.base",
    "pymq.provider.ipc",
    "pymq.provider.redis",
    "pymq.provider.simple",
    "pymq.pytest_plugin",
    "pymq.telemetry",
    "pymq.testing",
    "pymq.typing",
]


def test_the_public_modules_are_these() -> None:
    found = ["pymq"] + [
        module.name
        for module in pkgutil.walk_packages(pymq.__path__, "pymq.")
        if not module.name.rpartition(".")[2].startswith("_")
    ]
    assert sorted(found) == MODULES


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pymq.provider"])
def test_all_names_exist_are_sorted_and_documented(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    assert len(set(found.__all__)) == len(found.__all__)
    assert sorted(found.__all__) == list(found.__all__)
    for name in found.__all__:
        thing = getattr(found, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module}.{name} has no docstring"


def test_all_names_without_underscore_are_in_the_list() -> None:
    public = {
        name
        for name, value in vars(pymq).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public <= set(pymq.__all__)


def test_public_methods_are_documented() -> None:
    for cls in (pymq.NativeEventBus, pymq.EventBus, pymq.Queue, pymq.Topic, pymq.Delivery):
        for name, method in inspect.getmembers(cls):
            if not name.startswith("_") and (callable(method) or isinstance(method, property)):
                assert inspect.getdoc(method), f"{cls.__name__}.{name}"


def test_exceptions_have_one_root_and_the_originals_names_catch_ours() -> None:
    for name in pymq.exceptions.__all__:
        assert issubclass(getattr(pymq, name), pymq.PymqError)
    for cls in (pymq.CallTimeoutError, pymq.ProviderLostError):
        assert issubclass(cls, pymq.RemoteInvocationError)
    assert issubclass(pymq.RemoteInvocationError, pymq.RpcException)
    assert issubclass(pymq.NoSuchRemoteError, pymq.RpcException)
    assert issubclass(pymq.CallTimeoutError, TimeoutError)
    assert issubclass(pymq.ConnectionLostError, ConnectionError)


def test_the_package_is_typed() -> None:
    assert (Path(pymq.__file__).parent / "py.typed").exists()


def test_importing_imports_no_event_loop_of_others_and_no_redis() -> None:
    names = ("redis", "pydantic", "pytest", "opentelemetry", "prometheus_client")
    others = f"[name for name in {names} if name in sys.modules]"
    code = f"import sys, pymq; print({others})"
    folder = str(Path(pymq.__file__).parents[1])
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "[]\n"


def test_the_original_beside_this_package_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pymq_rs-1.0.0.dist-info").mkdir()
    assert original_beside(str(tmp_path)) is None
    (tmp_path / "pymq-0.7.0.dist-info").mkdir()
    assert original_beside(str(tmp_path)) == "0.7.0"
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match=r"pymq 0\.7\.0 and pymq-rs"):
        warn_of_original()


def test_the_abstract_classes_are_those_of_core() -> None:
    for cls in (pymq.EventBus, pymq.Queue, pymq.Topic, pymq.StubMethod):
        assert cls.__module__ == "pymq.core"


ORIGINAL_IN_FRONT = {
    "__init__.py": "from pymq.core import *",
    "core.py": "def init(factory, start_bus=True): ...",
    "exceptions.py": "class RpcException(Exception): ...",
}


def overlaid(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """An environment in which files of the original have replaced ours."""
    shutil.copytree(Path(pymq.__file__).parent, folder / "pymq")
    for name, text in files.items():
        (folder / "pymq" / name).write_text(text)
    (folder / "pymq-0.7.0.dist-info").mkdir()
    return {**os.environ, "PYTHONPATH": str(folder)}


SENTENCE = "the distributions pymq 0.7.0 and pymq-rs are both installed here"


@pytest.mark.parametrize("module", ["pymq.aio", "pymq.testing"])
def test_what_the_original_hides_says_so(tmp_path: Path, module: str) -> None:
    environment = overlaid(tmp_path, ORIGINAL_IN_FRONT)
    code = f"import pymq\ntry: import {module}\nexcept ImportError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert SENTENCE in done.stdout


@pytest.mark.parametrize(
    "files", [ORIGINAL_IN_FRONT, {}], ids=["installed last", "installed first"]
)
def test_pytest_runs_beside_the_original_and_says_so_once(
    tmp_path: Path, files: dict[str, str]
) -> None:
    environment = overlaid(tmp_path / "packages", files)
    (tmp_path / "test_it.py").write_text("def test_it(): pass")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "pymq.pytest_plugin",
        ],
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count(SENTENCE) == 1, said
