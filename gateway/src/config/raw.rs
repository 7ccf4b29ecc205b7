//! The file as it is written.
