"""The peers of `training.py`, one module each (inkling, keras, pytorch, sklearn), and what carries jobs and numbers."""
