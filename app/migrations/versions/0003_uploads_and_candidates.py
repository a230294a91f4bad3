"""A model may come without a run and have a description; an alias may have a share of the traffic, or shadow it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """SQLite makes `models` anew, which it refuses while aliases point to it: these are set aside meanwhile."""
    kept = op.get_bind().execute(sa.text("SELECT name, model, pinned FROM aliases")).all()
    op.drop_table("aliases")
    with op.batch_alter_table("models") as models:
        models.alter_column("run", existing_type=sa.String(64), nullable=True)
        # Before the parameters, which SQLite would read through on its way to it.
        description = sa.Column("description", sa.Text, nullable=False, server_default="")
        models.add_column(description, insert_after="name" if op.get_bind().dialect.name == "sqlite" else None)
    op.create_index("ix_models_sha256", "models", ["sha256"])
    aliases = op.create_table(
        "aliases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("model", sa.String(32), sa.ForeignKey("models.id"), nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("share", sa.Float, nullable=False, server_default="0"),
        sa.Column("shadow", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.bulk_insert(aliases, [{**row._mapping, "pinned": bool(row.pinned)} for row in kept])
