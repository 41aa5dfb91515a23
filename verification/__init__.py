"""The judge: certificates for pruned layers of any origin. Needs only NumPy and SciPy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.certificate import Certificate, Check, certify

__all__ = ["Certificate", "Check", "certify"]


def __getattr__(name: str) -> Any:
    """Import on first use, since every pytest run in the environment imports this package."""
    if name in __all__:
        from verification import certificate

        return getattr(certificate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
