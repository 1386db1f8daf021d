"""Cells of tables, and the commands that compute them."""
