//! Starts the real gateway and speaks to it as its users do.
//!
//! A scenario reads like a sentence:
//!
//! ```no_run
//! # use harness::{Gateway, Phone, Subscriber, Version};
//! # async fn scenario() {
//! let gateway = Gateway::new().config("[public]\nmissing_ttl = \"refuse\"\n").start().await;
//! let device = gateway.pair("phone").await;
//! let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
//! phone.subscribe().await;
//! let app = phone.register("app").await;
//! let keys = Subscriber::new();
//! gateway.post(&app.endpoint).ttl(60).body(keys.encrypt(b"hello")).send().await.expect(201);
//! let push = phone.expect_push().await;
//! assert_eq!(keys.decrypt(&push.payload), b"hello");
//! phone.ack(&push).await;
//! # }
//! ```
//!
//! Every wait is bounded by [`patience`] (`TEST_PATIENCE`, seconds); when a test fails, the log of its
//! gateway is printed with it. `GATEWAY_BIN` names another binary to test.

// A harness reports what went wrong by panicking with a sentence: that is its product.
#![allow(clippy::missing_panics_doc)]

mod bare;
mod binary;
mod conversations;
mod disk;
mod foreign;
mod gateway;
mod http;
mod ntfy;
mod phone;
mod ports;
mod sunup;
mod tap;
mod unit;
mod wait;
mod webpush;
mod xmpp;

pub use bare::BarePhone;
pub use binary::{target_dir, workspace};
pub use conversations::{DaemonKind, Phones, Pushed, Registered, XmppDaemon};
pub use disk::{Fault, Loss, Mounted, Random};
pub use foreign::{Foreign, Output, run, run_with_input};
pub use gateway::{Builder, Device, Gateway};
pub use http::{Request, Response, raw};
pub use ntfy::{Socket, Stream};
pub use phone::{App, Phone, Push, Version};
pub use ports::free_port;
pub use sunup::{Notification, Sunup};
pub use tap::Terminal;
pub use unit::unit_environment;
pub use wait::{eventually, eventually_within, holds_for, patience, within};
pub use webpush::{Sender, Subscriber, now_s};
pub use xmpp::{Component, XmppServer};
