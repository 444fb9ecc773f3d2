"""Kernels of other Debian suites, booted in QEMU with this checkout inside: ``scripts/vm --help``."""
