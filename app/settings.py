"""Every setting of the service, read from INKLING_* environment variables."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Built once, in `create_app` or a process' entry point; never at import."""

    model_config = SettingsConfigDict(env_prefix="INKLING_", frozen=True)

    host: str = Field("127.0.0.1", description="Address that the service listens on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port that the service listens on; 0 picks a free one")
    data_dir: Path = Field(Path(".inkling"), description="Folder of the databases: runs, progress and models")
    cache_dir: Path = Field(Path("~/.cache/inkling"), description="Folder of MNIST and compiled code; may be deleted")
    max_queued_runs: int = Field(100, ge=1, le=100_000, description="Runs that may wait; one more is answered 503")
    max_body_bytes: int = Field(8_000_000, ge=1_000, description="Size in bytes above which a request is answered 413")
    max_images: int = Field(256, ge=1, le=10_000, description="Images that one prediction request may carry")
    default_poll_seconds: float = Field(
        1.0, gt=0.0, le=60.0, description="Seconds between looks for a new default model"
    )
    checkpoint_seconds: float = Field(
        5.0, ge=0.1, le=3600.0, description="Least seconds between checkpoints, from which a dead worker's run goes on"
    )
    coordinator: str | None = Field(
        None,
        pattern=r"^\S+:\d+$",
        description="For `inkling train` on several hosts: host:port of the first, where jax.distributed meets",
    )
    processes: int = Field(1, ge=1, le=10_000, description="How many processes take part in that training")
    process: int = Field(0, ge=0, le=9_999, description="Which of them this is, from 0; 0 writes the files")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level logged")

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

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def queue_path(self) -> Path:
        return self.data_dir / "queue.db"

    @property
    def registry_path(self) -> Path:
        return self.data_dir / "inkling.db"
