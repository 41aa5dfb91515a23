"""Storage forms that make a pruned weight smaller on disk, in memory or at work: docs/forms.md."""

from thanos_torch.forms.bitmask import Bitmask
from thanos_torch.forms.choose import FORMS, form_bytes, form_from, form_of, pack
from thanos_torch.forms.compact import Compact, CompactLinear, compact_linear
from thanos_torch.forms.form import Form, bits_of, stored_bytes
from thanos_torch.forms.nm import PackedNM, semi_structured_linear

__all__ = [
    "FORMS",
    "Bitmask",
    "Compact",
    "CompactLinear",
    "Form",
    "PackedNM",
    "bits_of",
    "compact_linear",
    "form_bytes",
    "form_from",
    "form_of",
    "pack",
    "semi_structured_linear",
    "stored_bytes",
]
