//! After a restart: is everything there that has to be, and nothing else?

use std::{
    collections::{BTreeSet, VecDeque},
    io::Result,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    http::Http,
    judge::{Asked, Device},
    load::{Listener, Scene, join, row},
    process::Control,
};

/// What has not come for so long will not come.
const SILENCE: Duration = Duration::from_secs(15);
/// So many endpoints of each kind are asked for.
const SAMPLE: usize = 30;

/// Compares devices, registrations and tombstones.
pub(crate) fn accounts(scene: &Scene<'_>, control: &Control) {
    let rows = |ask: &str, list: &str| {
        let answer = control.ask(&json!({"ask": ask})).and_then(std::result::Result::ok);
        answer.and_then(|answer| answer[list].as_array().cloned())
    };
    let lists = (rows("device-list", "devices"), rows("registration-list", "registrations"));
    let (Some(devices), Some(registrations)) = lists else {
        return scene.judge().complain("the control socket does not answer after a restart".to_owned());
    };
    let mut judge = scene.judge();
    let found: BTreeSet<&str> = devices.iter().filter_map(|row| row["device"].as_str()).collect();
    let mut wrong = Vec::new();
    for Device { id, removed, .. } in &judge.devices {
        match (found.contains(id.as_str()), removed) {
            (false, Asked::No) => wrong.push(format!("device {id} is gone")),
            (true, Asked::Done(_)) => wrong.push(format!("device {id} was removed and is back")),
            (true | false, Asked::No | Asked::Maybe | Asked::Done(_)) => {}
        }
    }
    let found: BTreeSet<(String, String)> = registrations.iter().filter_map(row).collect();
    for registration in &judge.registrations {
        let own = (registration.channel.clone(), registration.path.clone());
        match (found.contains(&own), registration.removed) {
            (false, Asked::No) => wrong.push(format!("registration {} is gone", own.0)),
            (true, Asked::Done(_)) => wrong.push(format!("registration {} is back", own.0)),
            (true | false, Asked::No | Asked::Maybe | Asked::Done(_)) => {}
        }
    }
    for row in &registrations {
        let app = row["app"].as_str().unwrap_or_default();
        if !judge.apps.contains(app) {
            wrong.push(format!("nobody has asked for a registration {app:?}"));
        }
    }
    wrong.into_iter().for_each(|what| judge.complain(what));
}

/// Asks for endpoints that live and for tombstones.
pub(crate) fn endpoints(scene: &Scene<'_>) -> Result<()> {
    let mut wanted: Vec<(String, u16)> = Vec::new();
    {
        let judge = scene.judge();
        let each = |removed: bool, status: u16| {
            let newest = judge.registrations.iter().rev();
            newest
                .filter(move |each| match each.removed {
                    Asked::No => !removed,
                    Asked::Maybe => false,
                    Asked::Done(_) => removed,
                })
                .take(SAMPLE)
                .map(move |each| (each.path.clone(), status))
        };
        wanted.extend(each(false, 200).chain(each(true, 410)));
    }
    let mut http = Http::connect(scene.public)?;
    for (path, expected) in wanted {
        let status = http.ask("GET", &path, "", b"")?.status;
        if status != expected {
            scene.judge().complain(format!("{path} gives {status}, not {expected}"));
        }
    }
    Ok(())
}

/// Connects a device and takes everything that waits for it; it must be what is due.
pub(crate) fn drain(scene: &Scene<'_>, device: usize) -> Result<()> {
    let mut due = scene.judge().due(device);
    scene.judge().totals.checked += due.len() as u64;
    let client = join(scene, device)?;
    let mut client = Listener { client, unheard: VecDeque::new() };
    let registration = scene
        .judge()
        .registrations
        .iter()
        .position(|each| each.device == device && each.removed == Asked::No);
    let Some(registration) = registration else { return Ok(()) };
    let mut fence = None;
    let mut progress = Instant::now();
    loop {
        if due.is_empty() && fence.is_none() {
            // What waits comes in order: behind this one there is nothing old.
            let mut http = Http::connect(scene.public)?;
            fence = Some(scene.push(&mut http, registration, None, 86_400)?);
        }
        if progress.elapsed() > SILENCE {
            due.extend(fence);
            scene.judge().missed(&due);
            return Ok(());
        }
        let mut entries = Vec::new();
        let mut limit = Duration::from_millis(200);
        while let Some(publish) = client.hear(scene, limit)? {
            limit = Duration::ZERO;
            let id = scene.judge().received(device, &publish, client.client.since);
            entries.extend(id.zip(publish.packet_id));
            progress = Instant::now();
        }
        client.acknowledge(scene, &entries)?;
        due.retain(|id| !entries.iter().any(|(found, _)| found == id));
        scene.judge().narrow(&mut due);
        if entries.iter().any(|(id, _)| Some(*id) == fence) {
            break;
        }
    }
    // Until everything is heard that was acknowledged.
    while !client.unheard.is_empty() && progress.elapsed() < SILENCE {
        client.hear(scene, Duration::from_millis(100))?;
    }
    Ok(())
}
