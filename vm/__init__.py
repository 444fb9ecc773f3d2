"""Kernels of other Debian suites in QEMU, with this checkout inside: ``scripts/vm --help``."""
