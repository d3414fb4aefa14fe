"""`python -m enclave_runner.private DESCRIPTOR`: out of the network first, then the serving zygote's program."""

from __future__ import annotations

import sys

from enclave_runner.jail.confine import leave_network

leave_network()  # now: some libraries start threads when they are imported, and then it is too late for a namespace

from enclave_runner.private.program import main  # noqa: E402

if __name__ == "__main__":
    main(int(sys.argv[1]))
