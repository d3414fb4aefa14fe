"""What the enclave and the control plane agree on; the only package that `sandbox` may import from here."""
