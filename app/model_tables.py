"""The tables of models and of their aliases, as migrations/ has made them."""

import sqlalchemy as sa

from app.database import metadata

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("run", sa.String(64), unique=True),  # null: uploaded
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("parameters", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("accuracy", sa.Float, nullable=False),
    sa.Column("score", sa.Float, nullable=False),  # what the default is chosen by; below 0: a training that diverged
    sa.Column("validation_loss", sa.Float),
    sa.Column("validation_accuracy", sa.Float),
    sa.Column("evaluation", sa.JSON, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("safetensors", sa.LargeBinary, nullable=False),
)
aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("model", sa.ForeignKey("models.id"), nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),  # the default's alone
    sa.Column("share", sa.Float, nullable=False, server_default="0"),  # of the traffic: the candidate's alone
    sa.Column("shadow", sa.Boolean, nullable=False, server_default=sa.false()),  # the same
    sa.Column("answered", sa.BigInteger, nullable=False, server_default="0"),  # images: the candidate's trial so far
    sa.Column("compared", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("agreed", sa.BigInteger, nullable=False, server_default="0"),
)
