"""The flow table: events are folded into the picture that detectors and sinks read.

``table`` is the whole, ``scans`` what the kernel showed, ``told`` what HAProxy said,
``attribution`` joins the two, ``check_activity`` follows each server's checks.
"""
