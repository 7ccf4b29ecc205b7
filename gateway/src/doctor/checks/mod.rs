//! The checks: one file each, none knows another.

pub(super) mod board;
pub(super) mod clock;
pub(super) mod configuration;
pub(super) mod matrix;
pub(super) mod name;
pub(super) mod package;
pub(super) mod ports;
pub(super) mod proxy;
pub(super) mod public;
pub(super) mod push;
pub(super) mod state;
pub(super) mod tls;
