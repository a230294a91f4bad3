"""The servers of `serving.py`, one module each, and what starts them, loads them and prints what came of it."""
