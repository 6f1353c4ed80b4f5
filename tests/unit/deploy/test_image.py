"""The Dockerfile names only what exists, and copies nothing that the image does not need."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
from installing import wheel_of

from receiver import cli

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

#: Each instruction with its arguments, continued lines joined.
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.+)$", re.sub(r"\\\n\s*", " ", TEXT), re.MULTILINE)


def every(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def copied() -> list[str]:
    """Return the paths that are copied from this repository."""
    return [source for rest in every("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Build the wheel as in the image, from the files that are copied there only."""
    source = tmp_path_factory.mktemp("source")
    for name in copied():
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    return zipfile.ZipFile(wheel_of(source, source))


def test_copied_files_exist_and_are_not_ignored():
    kept_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    for name in copied():
        assert (ROOT / name).exists(), name
        assert name in kept_in, f"{name} is missing in .dockerignore"


def test_no_secret_can_get_into_the_image():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in lines
    kept_in = [line[1:] for line in lines if line.startswith("!")]
    assert not [name for name in (".env", "hookmirror.toml", "hookmirror.db", ".git") if name in kept_in]
    assert not [rest for rest in every("ENV") + every("ARG") if re.search("SECRET|PASSWORD|TOKEN|KEY", rest)]


def test_the_image_s_wheel_contains_every_module_and_data_file(wheel: zipfile.ZipFile):
    names = wheel.namelist()
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {str(path.relative_to(ROOT)) for path in files} <= set(names)


def test_a_page_of_the_console_opens_from_the_image_s_wheel(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    script = (
        "import receiver.console.rendering as rendering\n"
        "from receiver.console.static_files import static_files\n"
        "print(rendering.__file__, len(static_files()))\n"
        "rendering.compile_templates()\n"
    )
    command, environment = [sys.executable, "-P", "-c", script], os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "receiver" / "console" / "rendering.py"), "5"]


@pytest.mark.parametrize("package", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_the_wheel_says_that_each_package_has_types(wheel: zipfile.ZipFile, package: str):
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_image_s_wheel_has_the_entry_points(wheel: zipfile.ZipFile):
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "hookmirror = receiver.__main__:main" in wheel.read(name).decode()


def test_the_image_starts_an_existing_command_with_existing_options():
    [entry], [name, *options] = (json.loads(every(instruction)[0]) for instruction in ("ENTRYPOINT", "CMD"))
    assert entry in PROJECT["project"]["scripts"]
    command = typer.main.get_command(cli.compose(name)).commands[name]
    command.make_context(name, options)


def test_the_health_check_uses_a_program_of_the_image():
    (check,) = every("HEALTHCHECK")
    program, *_ = json.loads(check.partition("CMD ")[2])
    assert program == "python"


def test_the_image_runs_as_a_user_with_a_fixed_number_who_is_not_root():
    (user,) = every("USER")
    number, _, group = user.partition(":")
    assert int(number) > 0
    assert f"--uid {number}" in TEXT
    assert f"--gid {group}" in TEXT


def test_the_image_is_based_on_plain_images_with_a_supported_python():
    images = {rest.split()[0] for rest in every("FROM")}
    assert [image for image in images if not fnmatch(image, "python:3.*-slim")] == []
    wanted = tuple(map(int, re.findall(r"\d+", PROJECT["project"]["requires-python"])))
    for image in images:
        assert tuple(map(int, re.findall(r"\d+", image))) >= wanted


def test_the_image_installs_the_tested_versions():
    assert "--constraint constraints.txt" in TEXT


def test_the_image_s_working_folder_is_a_volume():
    assert every("VOLUME") == every("WORKDIR")[-1:]


def test_docker_stops_the_image_with_sigterm():
    assert every("STOPSIGNAL") == ["SIGTERM"]
