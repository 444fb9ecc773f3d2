"""hatrace: which sockets of an HAProxy host leak, who holds them, why, and what to do."""

__version__ = "0.1.0"
