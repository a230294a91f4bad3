"""What every part of a spec has in common."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen part of a spec: hashable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
