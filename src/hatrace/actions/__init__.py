"""What hatrace changes on a host, and only after it was agreed to: drain, close, retire.

    resolve (what is meant) → show → ask (`Desk.agreed`) → do → look again in the kernel

HAProxy's word that something was done is no proof (see `drain`): each action ends with what
sock_diag, /proc and pidfds say, and that decides its exit code.
"""
