//! How fast pushes become durable, and what that costs the disk.
//!
//! `cargo bench -p unifiedpush-gateway --bench store [-- DIR]` appends pushes of 1 KB, settling each
//! one when it is durable, at 1, 16 and 256 in flight. DIR must lie on a real disk; the default is
//! the system's temporary directory.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures and prints")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use unifiedpush_gateway::{
    clock::{Clock, SystemClock},
    model::{
        Coding, Device, DeviceId, EndpointToken, Phase, Profile, Registration, RegistrationId, Ttl, UnixTime,
        Urgency,
    },
    store::{Arrival, NewPush, Store},
};

const RUN: Duration = Duration::from_secs(5);

fn main() {
    // cargo passes `--bench`.
    let dir = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    println!("in flight  appends/s  p50 us  p99 us  KB written/append  CPU us/append  RSS MB");
    for in_flight in [1, 16, 256] {
        runtime.block_on(measure(&dir, in_flight));
    }
}

async fn measure(dir: &std::path::Path, in_flight: u64) {
    let dir = tempfile::tempdir_in(dir).expect("a directory is made");
    let clock = SystemClock::default();
    let Store { accounts, mut backlog, closer, intake, ledger, .. } =
        Store::open(dir.path(), |_| clock.moment()).expect("the store opens");
    let registration = Arc::new(registration());
    accounts.put_device(device()).expect("accepted").await.expect("written");
    accounts.put_registration((*registration).clone()).expect("accepted").await.expect("written");
    let mut arrivals = backlog.arrivals();
    let planner = tokio::spawn(async move {
        let mut accepted = 0_u64;
        while let Some(arrival) = arrivals.recv().await {
            accepted += u64::from(matches!(arrival, Arrival::Accepted { .. }));
        }
        accepted
    });

    let count = Arc::new(AtomicU64::new(0));
    let (before, cpu, start) = (written(), cpu(), Instant::now());
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (intake, ledger) = (intake.clone(), ledger.clone());
            let (registration, count) = (Arc::clone(&registration), Arc::clone(&count));
            tokio::spawn(async move {
                let (clock, mut times) = (SystemClock::default(), Vec::new());
                while start.elapsed() < RUN {
                    let push = NewPush {
                        body: vec![0x5a; 1024].into(),
                        coding: Coding::default(),
                        registration: Arc::clone(&registration),
                        topic: None,
                        ttl: Ttl::DEFAULT,
                        urgency: Urgency::Normal,
                    };
                    let begun = Instant::now();
                    let appended = intake.append(push, clock.moment()).expect("accepted");
                    appended.commit.await.expect("written");
                    times.push(begun.elapsed());
                    ledger.settle(registration.device, &[appended.id], Phase::Acked);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a task ends"));
    }
    let (elapsed, count) = (start.elapsed().as_secs_f64(), count.load(Ordering::Relaxed) as f64);
    let (cpu, rss) = (self::cpu() - cpu, rss());
    closer.close().await;
    let bytes = written() - before;
    times.sort_unstable();
    println!(
        "{in_flight:>9}  {:>9.0}  {:>6}  {:>6}  {:>17.1}  {:>13.1}  {:>6.1}",
        count / elapsed,
        times[times.len() / 2].as_micros(),
        times[times.len() * 99 / 100].as_micros(),
        bytes as f64 / count / 1024.0,
        cpu * 1e6 / count,
        rss,
    );
    drop((intake, ledger, accounts, backlog));
    let _ = planner.await;
}

fn device() -> Device {
    Device {
        created: UnixTime(1),
        id: DeviceId(1),
        name: "bench".into(),
        profile: Profile::default(),
        secret_hash: [0; 32],
        transport: "mqtt".into(),
    }
}

fn registration() -> Registration {
    Registration {
        app: "bench".into(),
        created: UnixTime(1),
        device: DeviceId(1),
        endpoint: EndpointToken([1; 20]),
        id: RegistrationId(1),
        token: "bench".parse().expect("a token"),
        vapid: None,
    }
}

/// The number behind a name in a file of /proc.
fn proc(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Bytes that this process has sent to disks.
fn written() -> u64 {
    proc("/proc/self/io", "write_bytes:")
}

fn rss() -> f64 {
    proc("/proc/self/status", "VmRSS:") as f64 / 1024.0
}

/// Seconds of CPU, in ticks of 10 ms.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
