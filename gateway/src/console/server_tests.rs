//! The control socket, end to end.
