"""The judge: certificates for pruned layers, whatever made them. NumPy and SciPy alone."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.certificate import Certificate, Check, certify

__all__ = ["Certificate", "Check", "certify"]


def __getattr__(name: str) -> Any:
    """Import on first use: every pytest run of an environment loads `verification.plugin`."""
    if name in __all__:
        from verification import certificate

        return getattr(certificate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
