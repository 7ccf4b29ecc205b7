//! What the gateway promises, asked of the real binary by clients that are part of this workspace.

// Scenarios state what must be; a failed expectation is their way to end.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod admission;
mod architecture;
mod authorization;
mod autopush;
mod autopush_hostile;
mod autopush_messages;
mod backup;
mod burst;
mod cli;
mod crash;
mod day;
mod delivery;
mod doctor;
mod documents;
mod fast;
mod faults;
mod groups;
mod hostile;
mod idle;
mod keep_alive;
mod limits;
mod matrix;
mod memory;
mod meter;
mod month;
mod ntfy;
mod ntfy_access;
mod ntfy_hostile;
mod offline;
mod open_broker;
mod packets;
mod pages;
mod process;
mod registration;
mod rooms;
mod router;
mod service;
mod vapid;
mod waiting;
mod wear;
mod web_socket;
mod xmpp;

use std::fs;

use harness::{Device, Gateway, Phone, Version};

/// A paired phone that is connected and hears its inbox.
async fn phone(gateway: &Gateway, version: Version) -> (Device, Phone) {
    let device = gateway.pair("phone").await;
    let mut phone = Phone::connect(gateway, &device, version).await;
    phone.subscribe().await;
    (device, phone)
}

/// A paired phone that has never been there, and an endpoint of it.
async fn absent(gateway: &Gateway) -> (Device, String) {
    let device = gateway.pair("absent").await;
    let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await.text().to_owned();
    (device, endpoint)
}

/// Posts a body in the clear, which the gateway must not look into, and expects it to be accepted.
async fn push(gateway: &Gateway, endpoint: &str, body: &str) -> String {
    gateway.post(endpoint).ttl(3600).body(body).send().await.expect(201).location().to_owned()
}

/// Receives and acknowledges pushes until one has this body; the bodies before it.
async fn bodies_until(phone: &mut Phone, last: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let push = phone.expect_push().await;
        phone.ack(&push).await;
        let body = String::from_utf8_lossy(&push.payload).into_owned();
        if body == last {
            return bodies;
        }
        bodies.push(body);
    }
}

/// A number of the gateway's in `/proc/PID/status`.
fn status(gateway: &Gateway, name: &str) -> u64 {
    let text =
        fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("our own child's is readable");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Memory that the gateway has for itself alone, in KB: what shared libraries are read by others is not counted.
fn own_kb(gateway: &Gateway) -> u64 {
    status(gateway, "RssAnon:")
}
