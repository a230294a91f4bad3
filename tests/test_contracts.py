"""Promises about the project as a whole: its arrows, its documents, its lock, its compose file."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parent.parent
FIELDS = ("description", "examples")
# Whoever is on the left may import whoever is on the right; jobs is the only one that speaks to DBOS.
ARROWS: dict[str, set[str]] = {
    "app.cli": {"app", "app.local", "app.logs", "app.settings", "app.supervisor", "app.worker", "model"},
    "app.checkpoints": {"app.database"},
    "app.database": set(),
    "app.dependencies": {"app.jobs", "app.predictor", "app.registry", "app.schemas", "app.settings"},
    "app.errors": {"app.schemas"},
    "app.jobs": {"app.database", "app.errors", "app.schemas", "model"},
    "app.lifeline": set(),
    "app.local": {"app.settings", "model"},
    "app.logs": {"app.settings"},
    "app.main": {
        *("app", "app.dependencies", "app.jobs", "app.lifeline", "app.predictor", "app.registry"),
        *("app.routes", "app.settings", "model"),
    },
    "app.predictor": {"app.errors", "app.registry", "model"},
    "app.registry": {"app.database", "app.errors", "app.schemas", "model"},
    "app.routes": {
        *("app.dependencies", "app.errors", "app.predictor", "app.registry", "app.schemas", "model"),
        "app.jobs",
    },
    "app.schemas": {"model"},
    "app.settings": set(),
    "app.supervisor": set(),
    "app.trainer": {"app", "app.checkpoints", "app.lifeline", "app.registry", "app.schemas", "app.settings", "model"},
    "app.worker": {"app", "app.checkpoints", "app.lifeline", "app.schemas", "app.settings", "model"},
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", sorted((ROOT / "model").glob("*.py")), ids=module)
def test_model_knows_neither_the_service_nor_web_nor_database(path: Path) -> None:
    outside = {name.partition(".")[0] for name in imports(path)}
    assert not outside & {"app", "fastapi", "starlette", "sqlalchemy", "dbos", "uvicorn", "typer"}


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("[!_]*.py")), ids=module)
def test_arrows_in_the_service_point_one_way(path: Path) -> None:
    name = "app.routes" if path.parent.name == "routes" else module(path)
    ours = {imported for imported in imports(path) if imported.partition(".")[0] in ("app", "model")}
    assert {"model" if imported.startswith("model.") else imported for imported in ours} <= ARROWS[name]
    assert (name == "app.jobs") == ("dbos" in imports(path))


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_setting_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`INKLING_{name.upper()}`" in readme


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_openapi_describes_every_field_with_an_example(openapi: dict[str, Any]) -> None:
    for name, schema in openapi["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            refers = "$ref" in described or "$ref" in str(described.get("items", "")) + str(described.get("anyOf", ""))
            missing = [key for key in FIELDS if key not in described and not (key == "examples" and refers)]
            assert not missing, f"{name}.{field} lacks {missing}"


def test_openapi_bounds_every_number_of_a_spec(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    seen: set[str] = set()
    waiting = ["TrainRequest"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for field, described in schemas[name].get("properties", {}).items():
            kinds = [described, *described.get("anyOf", [])]
            for kind in [*kinds, *(kind["items"] for kind in kinds if "items" in kind)]:
                if kind.get("type") in ("integer", "number"):
                    for bound in ("inimum", "aximum"):
                        assert any(key.endswith(bound) for key in kind), f"{name}.{field} has no bound: {kind}"
            waiting += {*re.findall(r"#/components/schemas/(\w+)", str(described))} - seen
    assert {"Dense", "Adam", "OneCycle", "Augmentation", "EarlyStopping", "MaxNorm"} <= seen


def test_openapi_describes_every_operation_and_parameter(openapi: dict[str, Any]) -> None:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}"
            for parameter in operation.get("parameters", []):
                described = {**parameter, **parameter["schema"]}
                assert all(described.get(key) for key in FIELDS), f"{method} {path} {parameter['name']}"


def test_openapi_gives_every_error_as_a_problem(openapi: dict[str, Any]) -> None:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for operations in openapi["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert response["content"] == {"application/problem+json": problem}
    assert "Problem" in openapi["components"]["schemas"]
    assert "ValidationError" not in str(openapi)


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_has_names_versions_and_hashes_and_no_addresses(lock: Path) -> None:
    requirements = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert len(requirements) > 30
    for requirement in requirements:
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement
    assert "://" not in lock.read_text()


def test_every_dependency_is_locked_and_justified() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    locked = (ROOT / "locks" / "dev.txt").read_text()
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.split(r"[\[>=<]", requirement)[0]
        assert re.search(rf"^{name}==", locked, re.MULTILINE), name
        assert re.search(rf'"{re.escape(requirement)}",\s+# \w+', text), f"{requirement} says why it is needed"


def test_compose_accepts_the_compose_file() -> None:
    commands = (["docker", "compose"], ["docker-compose"])
    compose = next((command for command in commands if runs([*command, "version"])), None)
    if compose is None:
        pytest.skip("no docker compose here")
    for profile in ([], ["--profile", "gpu"]):
        assert runs([*compose, *profile, "config", "--quiet"])


def runs(command: list[str]) -> bool:
    found = shutil.which(command[0])
    return found is not None and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
