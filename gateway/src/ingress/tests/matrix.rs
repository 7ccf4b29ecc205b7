//! The Matrix gateway, with what homeservers send.

use serde_json::{Value, json};

use super::*;
use crate::{admission::tests::signer::Signer, model::Urgency};

const NOTIFY: &str = "/_matrix/push/v1/notify";

fn key(endpoint: EndpointToken) -> String {
    format!("{BASE}/p/{endpoint}")
}

/// An event as Synapse sends it to a pusher with the format `event_id_only`.
fn synapse_event(event: &str, pushkeys: &[String]) -> Value {
    json!({"notification": {
        "event_id": event,
        "room_id": "!UcYsUzyxTGDxLBEvLz:example.org",
        "counts": {"unread": 1},
        "prio": "high",
        "devices": devices(pushkeys),
    }})
}

/// A new count of unread messages as Synapse sends it.
fn synapse_badge(unread: u32, pushkeys: &[String]) -> Value {
    json!({"notification": {
        "id": "",
        "type": null,
        "sender": "",
        "counts": {"unread": unread},
        "devices": devices(pushkeys),
    }})
}

fn devices(pushkeys: &[String]) -> Value {
    let device = |pushkey: &String| {
        json!({
            "app_id": "im.vector.app.android",
            "pushkey": pushkey,
            "pushkey_ts": 1_794_690_000,
            "data": {"format": "event_id_only"},
        })
    };
    pushkeys.iter().map(device).collect()
}

/// An event in full, as the specification's example has it, and as Sygnal's own tests send it.
fn sygnal_event(pushkeys: &[String]) -> Value {
    let device = |pushkey: &String| {
        json!({
            "app_id": "com.example.gcm",
            "pushkey": pushkey,
            "pushkey_ts": 42,
            "data": {},
            "tweaks": {"sound": "bing", "highlight": true},
        })
    };
    json!({"notification": {
        "id": "$3957tyerfgewrf384",
        "event_id": "$qTOWWTEL48yPm3uT-gdNhFcoHxfKbZuqRVnnWWSkGBs",
        "room_id": "!slw48wfj34rtnrf:example.com",
        "type": "m.room.message",
        "sender": "@exampleuser:matrix.org",
        "sender_display_name": "Major Tom",
        "room_name": "Mission Control",
        "room_alias": "#exampleroom:matrix.org",
        "user_is_target": true,
        "prio": "high",
        "content": {"msgtype": "m.text", "body": "I'm floating in a most peculiar way."},
        "counts": {"unread": 2, "missed_calls": 1},
        "devices": pushkeys.iter().map(device).collect::<Value>(),
    }})
}

impl Gateway {
    async fn notify(&self, body: impl AsRef<[u8]>) -> Reply {
        let headers = "Content-Type: application/json\r\nUser-Agent: Synapse/1.140.0\r\n";
        self.ask("POST", NOTIFY, headers, body.as_ref()).await
    }

    /// Sends what must be taken; the keys that are rejected.
    async fn notified(&self, body: &Value) -> Value {
        let reply = self.notify(body.to_string()).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("application/json")),
            "{reply:?}"
        );
        let mut reply: Value = serde_json::from_str(&reply.body).expect("JSON");
        reply["rejected"].take()
    }
}

#[tokio::test]
async fn matrix_is_discovered() {
    let gateway = Gateway::start().await;
    let reply = gateway.ask("GET", NOTIFY, "", b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"unifiedpush":{"gateway":"matrix"}}"#));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    let reply = gateway.ask("DELETE", NOTIFY, "", b"").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST, GET, HEAD, OPTIONS")));
    assert!(reply.body.contains("M_UNRECOGNIZED"), "{}", reply.body);
    let reply = gateway.ask("POST", "/_matrix/push/v1/other", "", b"{}").await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("M_UNRECOGNIZED"), "{}", reply.body);
}

#[tokio::test]
async fn a_notification_goes_to_each_device_as_it_is() {
    let gateway = Gateway::start().await;
    let wpush = format!("{BASE}/wpush/v1/{OTHER}");
    let old = format!("https://before.example/p/{OTHER}");
    for (body, urgency) in [
        (synapse_event("$a", &[key(LIVE), wpush.clone(), key(LIVE), old]), Urgency::High),
        (sygnal_event(&[key(LIVE), wpush]), Urgency::High),
    ] {
        gateway.queue.pushed.lock().expect("no panic").clear();
        assert_eq!(gateway.notified(&body).await, json!([]));
        let pushed = gateway.pushed();
        let endpoints: Vec<_> = pushed.iter().map(|push| push.registration.endpoint).collect();
        assert_eq!(endpoints, [LIVE, OTHER]);
        for push in pushed {
            assert_eq!(push.body, body.to_string());
            assert_eq!((push.urgency, push.topic, push.ttl.as_secs()), (urgency, None, 86_400));
        }
    }
}

#[tokio::test]
async fn a_count_is_of_low_urgency_and_replaces_the_one_before() {
    let gateway = Gateway::start().await;
    for unread in [2, 0] {
        assert_eq!(gateway.notified(&synapse_badge(unread, &[key(LIVE)])).await, json!([]));
    }
    let pushed = gateway.pushed();
    assert_eq!(pushed.len(), 2, "no event, nothing to tell apart by");
    for push in pushed {
        assert_eq!(push.urgency, Urgency::Low);
        assert_eq!(push.topic.expect("counts have one").as_str(), "matrix-badge");
    }
}

#[tokio::test]
async fn an_event_that_comes_again_is_taken_once() {
    let gateway = Gateway::start().await;
    let event = synapse_event("$a", &[key(LIVE)]);
    for _ in 0..3 {
        assert_eq!(gateway.notified(&event).await, json!([]));
    }
    assert_eq!(gateway.pushed().len(), 1);
    gateway.notified(&synapse_event("$b", &[key(LIVE)])).await;
    gateway.notified(&synapse_event("$a", &[key(OTHER)])).await;
    assert_eq!(gateway.pushed().len(), 3, "another event, and another's");
}

#[tokio::test]
async fn only_what_is_gone_or_never_was_is_rejected() {
    let gateway = Gateway::start().await;
    let dead = [
        key(GONE),
        key(NOBODYS),
        format!("{BASE}/wpush/v1/{GONE}"),
        "https://ntfy.example/upAbCdEfGhIjKl?up=1".into(),
        "dGhlIGtleSBvZiBhbiBBcHBsZSBwaG9uZQ==".into(),
    ];
    for dead in &dead {
        assert_eq!(gateway.notified(&synapse_event("$a", std::slice::from_ref(dead))).await, json!([dead]));
    }
    let mut all = dead.to_vec();
    all.insert(2, key(LIVE));
    assert_eq!(gateway.notified(&synapse_event("$a", &all)).await, json!(dead));
    assert_eq!(gateway.pushed().len(), 1);
}

#[tokio::test]
async fn what_passes_is_503_and_nothing_is_rejected() {
    let gateway =
        Gateway::with(Limits { commit: Duration::from_millis(20), ..Limits::default() }, None).await;
    let event = synapse_event("$a", &[key(GONE), key(LIVE)]).to_string();
    for (script, seconds) in [
        (Script::Refuse(NotStored::Busy), "1"),
        (Script::Refuse(NotStored::Disk), "30"),
        (Script::Break(NotStored::Disk), "30"),
        (Script::Gate(Arc::new(Semaphore::new(0))), "30"),
    ] {
        gateway.script(script);
        let reply = gateway.notify(&event).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some(seconds)));
        assert!(reply.body.contains("M_UNKNOWN") && !reply.body.contains("rejected"), "{}", reply.body);
    }
    // None of them is known as delivered.
    gateway.script(Script::Store);
    let before = gateway.pushed().len();
    assert_eq!(gateway.notify(&event).await.status, 200);
    assert_eq!(gateway.pushed().len(), before + 1);
    // A room's own endpoint, perhaps.
    let topic = format!("{BASE}/upAbCdEfGhIjKl?up=1");
    let reply = gateway.notify(synapse_event("$b", &[topic]).to_string()).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("60")));
}

#[tokio::test]
async fn a_device_that_gets_too_much_is_429_and_the_others_get_it_once() {
    let gateway = Gateway::metered(Rate { burst: 1, per_second: 1 }).await;
    assert_eq!(gateway.notified(&synapse_event("$a", &[key(LIVE)])).await, json!([]));
    let both = synapse_event("$b", &[key(LIVE), key(OTHER)]).to_string();
    for _ in 0..2 {
        let reply = gateway.notify(&both).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
        assert!(reply.body.contains("M_LIMIT_EXCEEDED"), "{}", reply.body);
    }
    let endpoints: Vec<_> = gateway.pushed().iter().map(|push| push.registration.endpoint).collect();
    assert_eq!(endpoints, [LIVE, OTHER]);
    assert_eq!(gateway.notified(&synapse_event("$a", &[key(LIVE)])).await, json!([]), "known is free");
}

#[tokio::test]
async fn an_endpoint_with_a_key_is_not_a_homeserver_s() {
    let gateway = Gateway::with(Limits::default(), Some(Signer::new().key())).await;
    let reply = gateway.notify(synapse_event("$a", &[key(BOUND)]).to_string()).await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("vapid")));
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn what_is_no_notification_is_400_and_too_much_413() {
    let gateway = Gateway::start().await;
    let many = synapse_event("$a", &vec!["k".to_owned(); 33]).to_string();
    for body in ["", "{", "{}", r#"{"notification":{"devices":[]}}"#, &many] {
        let reply = gateway.notify(body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains("M_BAD_JSON") && reply.body.contains("devices"), "{}", reply.body);
    }
    let sized = |bytes: usize| {
        let mut event = synapse_event("$a", &[key(LIVE)]);
        event["notification"]["content"] = json!("");
        let rest = event.to_string().len();
        event["notification"]["content"] = json!("x".repeat(bytes - rest));
        event.to_string()
    };
    assert_eq!(gateway.notify(sized(5630)).await.status, 200);
    let reply = gateway.notify(sized(5631)).await;
    assert_eq!(reply.status, 413);
    assert!(reply.body.contains("M_TOO_LARGE"), "{}", reply.body);
    assert_eq!(gateway.pushed().len(), 1);
}
