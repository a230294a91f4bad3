"""What a candidate has done is counted here, by every API process."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("answered", "compared", "agreed"):
        op.add_column("aliases", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
