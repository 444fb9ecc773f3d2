"""What HAProxy is on this host and what it says of itself; read, parsed, sampled as events.

    procfs → discovery → (config, sockets) → runtime → parse, lines → servers → sampler → events

Nothing here changes HAProxy, but for `check_events`, which switches a trace on when asked to
and off again.
"""
