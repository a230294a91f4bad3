"""Promises about the project as a whole: its arrows, its documents, its lock, its compose file."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from dbos import DBOS, _core, _dbos
from dbos._core import ActiveWorkflowById
from dbos._schemas.system_database import SystemSchema
from dbos._sys_db import SystemDatabase
from pydantic import SecretStr

import app
import model
from app.main import create_app
from app.settings import Settings
from model.spec import TrainSpec

ROOT = Path(__file__).parent.parent
FIELDS = ("description", "examples")
DATABASE_URL = "INKLING_DATABASE_URL"
# They alone speak to DBOS.
QUEUE = {"app.claims", "app.jobs", "app.run_queue", "app.statuses"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            package = node.module if node.module in ("app", "model") else None
            found |= {f"{package}.{alias.name}" for alias in node.names} if package else {str(node.module)}
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", sorted((ROOT / "model").glob("*.py")), ids=module)
def test_model_knows_neither_the_service_nor_web_nor_database(path: Path) -> None:
    outside = {name.partition(".")[0] for name in imports(path)}
    assert not outside & {"app", "fastapi", "starlette", "sqlalchemy", "dbos", "uvicorn", "typer"}


def test_a_wheel_has_every_folder_of_the_service() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for name in ("app", "model", "static") for path in (ROOT / name).rglob("*.*")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders if folder.name != "__pycache__"}
    assert set(built) == found


@pytest.mark.parametrize("package", [app, model], ids=lambda package: package.__name__)
def test_a_module_imports_only_what_stands_above_it_in_its_packages_map(package: ModuleType) -> None:
    order = re.findall(r"^    (\w+)  ", str(package.__doc__), re.MULTILINE)
    assert len(order) == len(set(order))
    paths = [path for path in (ROOT / package.__name__).rglob("[!_]*.py") if "migrations" not in path.parts]
    names = {path: module(path).split(".")[1] for path in paths}
    assert set(names.values()) == set(order)
    for path, name in names.items():
        for imported in imports(path):
            top, _, above = imported.partition(".")
            if top == package.__name__ and (above := above.partition(".")[0]) != name:
                assert order.index(above) < order.index(name), f"{module(path)} imports {imported}"


def test_the_queue_alone_speaks_to_dbos() -> None:
    assert {module(path) for path in (ROOT / "app").rglob("*.py") if "dbos" in imports(path)} == QUEUE


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=module)
def test_a_test_needs_no_other_file_of_tests(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("tests.test_")]


def test_what_is_used_of_dbos_beyond_its_public_interface_is_there() -> None:
    """`app.claims` does, and `app.statuses`; another version of DBOS may have it otherwise."""
    arguments = {
        _dbos._get_dbos_instance: [],
        DBOS._recover_pending_workflows: ["executor_ids"],
        SystemDatabase._now_ms_sql: ["self"],
        SystemDatabase.read_stream_values: ["self", "workflow_uuid", "key", "offset", "limit"],
        ActiveWorkflowById.activeList: ["self"],
    }
    for function, parameters in arguments.items():
        assert list(inspect.signature(function).parameters) == parameters, function
    private = {"_sys_db": DBOS, "_active_workflows_set": DBOS, "engine": SystemDatabase, "tables": SystemDatabase}
    for name, owner in private.items():
        assert hasattr(owner, name) or f"self.{name}" in inspect.getsource(owner), name
    columns = {
        SystemSchema.workflow_status: "workflow_uuid status executor_id recovery_attempts owner_xid completed_at "
        "started_at_epoch_ms name authenticated_user priority created_at attributes",
        SystemSchema.workflow_events: "workflow_uuid key value",
        SystemSchema.streams: "workflow_uuid",
    }
    for table, names in columns.items():
        assert set(names.split()) <= set(table.c.keys())
    assert "sleep(_PREEMPTIBLE_POLL_INTERVAL_SEC)" in inspect.getsource(_core)


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_setting_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`INKLING_{name.upper()}`" in readme


def test_a_spec_that_an_older_version_has_stored_is_still_read() -> None:
    """As runs and models of November 2026 have them, with every kind of part. Add lines, change none."""
    for stored in (ROOT / "tests" / "stored_specs.jsonl").read_text().splitlines():
        TrainSpec.model_validate_json(stored)  # which refuses a field that it does not know


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return create_app(Settings(api_keys={"ada": SecretStr("5ecret")})).openapi()


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


def test_openapi_says_which_operations_ask_for_a_key_and_may_have_to_wait(openapi: dict[str, Any]) -> None:
    (scheme,) = openapi["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operations = {
        (method, path): operation for path, methods in openapi["paths"].items() for method, operation in methods.items()
    }
    for (method, path), operation in operations.items():
        predicts = path == "/predict" or path.startswith("/v2/")
        assert ("security" in operation) == ("401" in operation["responses"]) == (method != "get" and not predicts), (
            path
        )
    never = {path for (_, path), operation in operations.items() if "503" not in operation["responses"]}
    assert never == {"/healthz", "/metrics", "/presets", "/v2", "/v2/health/live"}
    assert "Retry-After" in operations["post", "/train"]["responses"]["429"]["headers"]


def test_openapi_asks_for_no_key_where_the_service_has_none() -> None:
    openapi = create_app(Settings(api_keys={})).openapi()
    assert "securitySchemes" not in openapi["components"]
    for operations in openapi["paths"].values():
        assert not any("security" in operation or "401" in operation["responses"] for operation in operations.values())


def test_openapi_describes_what_is_made_and_what_is_downloaded(openapi: dict[str, Any]) -> None:
    for path, status in (("/train", "202"), ("/models", "200"), ("/models", "201")):
        assert "Location" in openapi["paths"][path]["post"]["responses"][status]["headers"]
    download = openapi["paths"]["/models/{model}/download"]["get"]["responses"]["200"]
    assert list(download["content"]) == ["application/octet-stream"]


def test_openapi_says_what_each_event_of_a_run_holds(openapi: dict[str, Any]) -> None:
    answer = openapi["paths"]["/train/{run}/events"]["get"]["responses"]["200"]
    described = answer["content"]["text/event-stream"]["schema"]["description"]
    schemas = openapi["components"]["schemas"]
    assert all(name in described and name in schemas for name in ("Progress", "EpochReport", "RunEnd"))
    assert {*schemas["RunEnd"]["properties"]} == {"state", "model", "error"}
    assert {*re.findall(r"#/components/schemas/(\w+)", str(openapi))} <= {*schemas}


def test_openapi_makes_clients_that_leave_to_a_preset_what_they_do_not_set(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    assert [name for name, field in schemas["TrainRequest"]["properties"].items() if "default" in field] == []
    assert "required" not in schemas["TrainRequest"]
    assert (schemas["TrainSpec"]["properties"]["epochs"]["default"], schemas["Dense"]["required"]) == (
        20,
        ["type", "units"],
    )


def test_openapi_names_every_operation_after_its_function(openapi: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in openapi["paths"].values() for operation in methods.values()]
    assert len({*names}) == len(names)
    assert {"predict", "train", "watch_run", "infer_by_version"} <= {*names}


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


def test_every_package_that_is_imported_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[>=<]", requirement)[0] for requirement in project["dependencies"]}
    parts = {"starlette", "pydantic-core"}  # of FastAPI and pydantic, which keep their versions together
    files = [*(ROOT / "app").rglob("*.py"), *(ROOT / "model").glob("*.py")]
    imported = {name.partition(".")[0] for path in files for name in imports(path)} - sys.stdlib_module_names
    packages = {packages_distributions()[name][0].lower().replace("_", "-") for name in imported - {"app", "model"}}
    assert packages <= declared | parts


@pytest.fixture(scope="module")
def compose() -> list[str]:
    commands = (["docker", "compose"], ["docker-compose"])
    found = next((command for command in commands if runs([*command, "version"])), None)
    if found is None:
        pytest.skip("no docker compose here")
    return found


@pytest.mark.parametrize("profile", [None, "gpu", "cluster", "cluster-gpu"])
def test_compose_accepts_the_compose_file(compose: list[str], profile: str | None) -> None:
    assert runs([*compose, *(["--profile", profile] if profile else []), "config", "--quiet"])


def test_the_plain_compose_command_starts_the_plain_service_alone(compose: list[str]) -> None:
    services = composed(compose)["services"]
    assert [name for name, service in services.items() if "profiles" not in service] == ["inkling"]
    for name in ("balancer", "api", "worker", "postgres"):
        assert "cluster" in services[name]["profiles"]
    for name in ("balancer", "api", "worker-gpu", "postgres"):
        assert "cluster-gpu" in services[name]["profiles"]


def test_compose_has_as_many_replicas_as_asked_for(compose: list[str]) -> None:
    settings = {"INKLING_API_REPLICAS": "3", "INKLING_WORKER_REPLICAS": "4"}
    for environment, counts in (({}, (2, 2, 1)), (settings, (3, 4, 4))):
        services = composed(compose, **environment)["services"]
        assert counts == tuple(services[name]["deploy"]["replicas"] for name in ("api", "worker", "worker-gpu"))


def test_compose_passes_every_setting_on(compose: list[str]) -> None:
    by_the_image = {"host", "port", "data_dir", "cache_dir"}
    by_commands_alone = {"coordinator", "processes", "process"}
    passed_on = {f"INKLING_{name.upper()}" for name in Settings.model_fields.keys() - by_the_image - by_commands_alone}
    given = {"INKLING_API_KEYS": '{"ada": "5ecret"}', "FORWARDED_ALLOW_IPS": "192.0.2.7"}
    services = composed(compose, **given)["services"]
    for name in ("inkling", "inkling-gpu", "api", "worker", "worker-gpu"):
        environment = services[name]["environment"]
        assert {name for name in environment if name.startswith("INKLING_")} | {DATABASE_URL} == passed_on
        assert environment["FORWARDED_ALLOW_IPS"] == ("192.0.2.7" if "inkling" in name or "worker" in name else "*")
        assert (DATABASE_URL in environment) == ("inkling" not in name)  # a service of its own has SQLite in its volume
        assert environment["INKLING_API_KEYS"] == '{"ada": "5ecret"}'


def composed(compose: list[str], **environment: str) -> dict[str, Any]:
    """The compose file as compose reads it, all profiles included."""
    profiles = [part for name in ("gpu", "cluster", "cluster-gpu") for part in ("--profile", name)]
    result = subprocess.run(
        [*compose, *profiles, "config"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(yaml.safe_load(result.stdout))


def runs(command: list[str]) -> bool:
    found = shutil.which(command[0])
    return found is not None and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
