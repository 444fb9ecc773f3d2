"""Exports: a capture's flows and findings as rows for other tools."""
