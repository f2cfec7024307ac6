"""Remove secrets from URIs, and from texts that quote URIs."""

from pipeline.redaction.credentials import in_lists
from pipeline.redaction.flags import without_flags, without_secret_flags
from pipeline.redaction.texts import redact, redact_all, without
from pipeline.redaction.uris import Naming, identity_of, name_of

__all__ = [
    "Naming",
    "identity_of",
    "in_lists",
    "name_of",
    "redact",
    "redact_all",
    "without",
    "without_flags",
    "without_secret_flags",
]
