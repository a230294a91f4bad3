"""Every setting of the service, read from INKLING_* environment variables."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

NOBODY = "inkling"  # whose runs the service's own are
_POSTGRESQL_URL = "postgresql://USER:PASSWORD@HOST/DATABASE"
_WRITTEN_AS = {  # the settings that are JSON
    "api_keys": '{"ada": "5ecret"}',
    "priority_users": '["teacher"]',
    "allowed_origins": '["https://school.example"]',
}


class Settings(BaseSettings):
    """Built once, in `create_app` or a process' entry point; never at import."""

    model_config = SettingsConfigDict(env_prefix="INKLING_", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address that the service listens on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port that the service listens on; 0 picks a free one")
    data_dir: Path = Field(
        Path(".inkling"), description="Folder of this machine's own files, and of the databases unless a URL says else"
    )
    database_url: str = Field(
        "",
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; empty: inkling.db in the data folder",
    )
    cache_dir: Path = Field(Path("~/.cache/inkling"), description="Folder of what is computed once; may be deleted")
    max_queued_runs: int = Field(1_000, ge=1, le=100_000, description="Runs that may wait; one more is answered 503")
    max_queued_runs_per_user: int = Field(
        100, ge=1, le=100_000, description="Of these, one user's; one more is answered 429"
    )
    api_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {}, description="A JSON object of user names and their keys; with it, changing anything needs a key"
    )
    priority_users: Annotated[list[str], NoDecode] = Field(
        [], description="A JSON list of the user names whose runs may have high priority, and who may cancel any run"
    )
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        [], description="A JSON list of the other sites whose pages may use the service; `*`: all of them"
    )
    max_body_bytes: int = Field(
        8_000_000, ge=1_000, description="Size in bytes of a drawing's request above which it is answered 413"
    )
    body_seconds: float = Field(
        60.0,
        gt=0.0,
        le=3600.0,
        description="Seconds that a request's body may take to arrive before it is answered 408",
    )
    max_images: int = Field(256, ge=1, le=10_000, description="Images that one prediction request may carry")
    max_batch: int = Field(64, ge=1, le=1024, description="Images that are recognised together at most")
    batch_wait_seconds: float = Field(
        0.0, ge=0.0, le=1.0, description="Seconds that images that wait together wait for more; one alone never does"
    )
    max_waiting_images: int = Field(
        1_024,
        ge=1,
        le=100_000,
        description="Images that may wait in each queue, to be prepared or for a model; one more is answered 503",
    )
    predict_seconds: float = Field(
        10.0, gt=0.0, le=600.0, description="Seconds after which an image that still waits is answered 503"
    )
    default_poll_seconds: float = Field(
        1.0, gt=0.0, le=60.0, description="Seconds between looks for a new default model"
    )
    checkpoint_seconds: float = Field(
        5.0, ge=0.1, le=3600.0, description="Least seconds between checkpoints, from which a dead worker's run goes on"
    )
    workers: int = Field(
        0,
        ge=0,
        le=1_000,
        description="Workers that `inkling serve` starts; 0: as many as the GPUs are enough for, or one",
    )
    devices_per_worker: int = Field(1, ge=1, le=64, description="GPUs that a worker trains each of its runs on")
    workers_per_device: int = Field(
        1, ge=1, le=64, description="Workers that share a GPU, and its memory in equal parts"
    )
    heartbeat_seconds: float = Field(10.0, gt=0.0, le=600.0, description="Seconds between a worker's signs of life")
    dead_seconds: float = Field(
        60.0, gt=0.0, le=3600.0, description="Seconds without one after which another worker takes its run over"
    )
    progress_days: float = Field(
        30.0, gt=0.0, le=36_500.0, description="Days that an ended run's progress events are kept; its history stays"
    )
    coordinator: str | None = Field(
        None,
        description="For `inkling train` on several hosts: host:port of the first, where jax.distributed meets",
    )
    processes: int = Field(1, ge=1, le=10_000, description="How many processes take part in that training")
    process: int = Field(0, ge=0, le=9_999, description="Which of them this is, from 0; 0 writes the files")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level logged")

    @field_validator(*_WRITTEN_AS, mode="before")
    @classmethod
    def _parse(cls, given: Any, info: ValidationInfo) -> Any:
        """Here, since pydantic-settings by itself does not say which setting is no JSON."""
        try:
            return from_json(given) if isinstance(given, str) else given
        except ValueError as error:
            right = _WRITTEN_AS[info.field_name or ""]
            raise ValueError(f"not JSON: {error}; write it as {right}") from None

    @field_validator("allowed_origins")
    @classmethod
    def _check_allowed_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if not re.fullmatch(r"\*|https?://[^/\s]+", origin):
                raise ValueError(f"{origin!r} is no origin; write it as {_WRITTEN_AS['allowed_origins']}")
        return origins

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if "" in keys:
            raise ValueError("a user's name is empty")
        if NOBODY in keys:
            raise ValueError(f"{NOBODY} is the service itself, whose runs are everybody's; choose another name")
        if len({*keys.values()}) < len(keys):
            raise ValueError("two users have the same key")
        for user, key in keys.items():
            secret = key.get_secret_value()
            if not secret:
                raise ValueError(f"{user}'s key is empty")
            if not secret.isprintable() or secret != secret.strip() or max(secret) > "\xff":
                raise ValueError(f"{user}'s key has characters that no HTTP header can carry")
        return keys

    @field_validator("priority_users")
    @classmethod
    def _check_priority_users(cls, users: list[str], info: ValidationInfo) -> list[str]:
        """Without keys they are addresses."""
        keys = info.data.get("api_keys")
        if keys and (strangers := ", ".join(repr(user) for user in users if user not in keys)):
            raise ValueError(f"{strangers} has no key in INKLING_API_KEYS")
        return users

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str) -> str:
        if not url:
            return url
        if not re.match(r"sqlite:///[^:]|postgresql://.", url):
            raise ValueError(f"it is neither sqlite:///FILE nor {_POSTGRESQL_URL}")
        from sqlalchemy import make_url  # takes a while, and few processes that read settings have a URL

        try:
            database = make_url(url).database
        except ValueError:
            raise ValueError(f"its port is no number: {_POSTGRESQL_URL}") from None
        if not database:
            raise ValueError(f"it names no database: {_POSTGRESQL_URL}")
        return url

    @field_validator("max_waiting_images")
    @classmethod
    def _check_waiting_images(cls, waiting: int, info: ValidationInfo) -> int:
        if waiting < (least := info.data.get("max_images", 1)):
            raise ValueError(f"Input should be at least INKLING_MAX_IMAGES, {least}")
        return waiting

    @field_validator("coordinator")
    @classmethod
    def _check_coordinator(cls, address: str | None) -> str | None:
        if address and not re.fullmatch(r"\S+:\d+", address):
            raise ValueError("Input should be host:port")
        return address

    @field_validator("processes")
    @classmethod
    def _check_processes(cls, processes: int, info: ValidationInfo) -> int:
        if processes > 1 and info.data.get("coordinator") is None:
            raise ValueError("more than one needs INKLING_COORDINATOR, where they meet")
        return processes

    @field_validator("process")
    @classmethod
    def _check_process(cls, process: int, info: ValidationInfo) -> int:
        if process >= info.data.get("processes", process + 1):
            raise ValueError(f"Input should be less than INKLING_PROCESSES, {info.data['processes']}")
        return process

    @field_validator("dead_seconds")
    @classmethod
    def _check_dead_seconds(cls, dead_seconds: float, info: ValidationInfo) -> float:
        if dead_seconds < (least := 3 * info.data.get("heartbeat_seconds", 0.0)):
            raise ValueError(f"Input should be at least three times INKLING_HEARTBEAT_SECONDS, {least:g}")
        return dead_seconds

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        try:
            return path.expanduser().absolute()
        except RuntimeError:
            raise ValueError(f"{path.parts[0]} is no user's folder here: write the whole path") from None

    @property
    def database(self) -> str:
        """The URL of the database that models, checkpoints and workers live in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'inkling.db'}"
