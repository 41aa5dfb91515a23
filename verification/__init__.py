"""The judge: certificates for pruned layers, whatever made them. NumPy and SciPy alone."""

from verification.certificate import Certificate, Check, certify

__all__ = ["Certificate", "Check", "certify"]
