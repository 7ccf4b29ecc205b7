//! The UnifiedPush gateway.
//!
//! Application servers post push messages; the gateway keeps them on disk until a device has
//! acknowledged them and decides when each device is woken. The rooms, in the order data flows:
//!
//! [`ingress`] ▶ [`admission`] ▶ [`store`] ▶ [`wake`] ▶ [`transport`] ▶ device, and back as
//! [`transport::Report`] through [`ack`]. `gateway/ARCHITECTURE.md` says which room may import which.

pub mod model;

pub mod clock;
pub mod config;
pub mod telemetry;

pub mod ack;
pub mod admission;
pub mod ingress;
pub mod meter;
pub mod registry;
pub mod store;
pub mod tls;
pub mod transport;
pub mod wake;

pub mod console;
pub mod doctor;
pub mod simulate;
pub mod system;

pub mod app;
pub mod cli;
