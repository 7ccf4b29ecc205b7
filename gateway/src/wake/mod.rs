//! When each device is woken, and with what.
//!
//! [`Planner`] decides: a pure state machine without clock, socket or disk. [`Driver`] is the thin
//! shell around it that feeds it arrivals, reports and the time, and carries out its orders.
//!
//! # The rule
//! Everything pending leaves at the earliest deadline, or when the connection would fall silent for
//! too long; and whenever the radio is up anyway. No other rule wakes a device less often: until a
//! deadline comes there is always a reason to wait, and when one comes there is no way round it.
//! A test holds the planner to that. Only quiet hours could be used better by who knows what comes: they
//! cost at most one wake more.
//!
//! # What may leave
//! | reason to hold | what it holds | until |
//! |---|---|---|
//! | the floor that the device has said | what lies below it | the floor falls; else it expires |
//! | quiet hours | all but urgency high | they end; else it expires |
//! | power and network that the device has said, no floor | RFC 8030 §5.3, table 1 | they change; at the latest a second before it expires |
//! | the cap on wakes of one registration | nothing: its deadlines are moved | an hour after the wakes that count; at the latest a second before it expires |
//!
//! The first two are somebody's word, the others only save energy.
//!
//! # Map
//! [`settings`] what the owner wants · [`gate`] what may leave now · [`class`] what waits at one urgency ·
//! [`cap`] who has woken the device how often · [`line`] one device · [`planner`] all of them · [`fresh`] bodies
//! that leave without a read.

mod cap;
#[cfg(test)]
mod cap_tests;
mod class;
mod driver;
mod fresh;
mod gate;
pub mod keep_alive;
mod line;
#[cfg(test)]
mod optimum_tests;
mod planner;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting_tests;

pub use driver::{Driver, Settle, Wishes};
pub use planner::{Order, Planner};
pub use settings::{CAP, Policy, Settings, TAU};
pub use shelf::Shelf;
