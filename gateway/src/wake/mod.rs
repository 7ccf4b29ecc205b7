//! When each device is woken, and with what.
//!
//! [`Planner`] decides: a pure state machine without clock, socket or disk. [`Driver`] is the thin
//! shell around it that feeds it arrivals, reports and the time, and carries out its orders.

mod driver;
pub mod keep_alive;
mod line;
mod planner;
#[cfg(test)]
mod tests;

pub use driver::{Driver, Expired};
pub use planner::{Order, Planner};
