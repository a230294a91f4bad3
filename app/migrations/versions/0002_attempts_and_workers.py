"""Checkpoints know the attempt that they are of, and workers tell that they live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("checkpoints") as checkpoints:
        checkpoints.add_column(sa.Column("attempt", sa.Integer, nullable=False, server_default="0"))
        checkpoints.alter_column("data", existing_type=sa.LargeBinary, nullable=True)
    op.create_table(
        "workers",
        sa.Column("executor", sa.String(200), primary_key=True),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
    )
