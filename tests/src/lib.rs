//! Starts the real gateway and speaks to it as its users do.
