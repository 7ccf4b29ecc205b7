//! The commands without and with a running gateway.
