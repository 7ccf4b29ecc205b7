//! See gateway/ARCHITECTURE.md.
