"""The nouns: immutable values that every other package may import, and that import nothing.

Times are CLOCK_MONOTONIC in ns unless a name says otherwise; ``None`` means unknown,
zero means zero.
"""
