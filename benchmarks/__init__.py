"""Every claimed number, measured: `.venv/bin/python -m benchmarks.NAME` in the checkout; `--help` has the options.

NAME: presets, recognition, rejection and segmentation say how good the answers are; training, checkpoints and gpu how
fast it learns; serving and preparation how fast it answers; load and promptness how it bears many users; leaks what it
holds. README.md has the results, NOTES.md how they came about.
"""
