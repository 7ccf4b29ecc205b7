//! What each client needs of the protocol, one line of the checklist after the other.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::house::{Client, House, THROTTLED, TestDirectory, path, soon, uaid};
use crate::{
    model::{Coding, DeviceId, MessageId, PushMessage, RegistrationId, Urgency},
    transport::{
        Consignment, Event, Item, Notice, Parting, Pulse, Transport, Turned,
        autopush::{Limits, seat::lock},
        battery::item,
        web::Audience,
    },
};

const DEVICE: DeviceId = DeviceId(77);
const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";
/// The public key of RFC 8292 §2.4, with the padding that Firefox adds.
const KEY: &str = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs=";

/// The fields without which Sunup drops a message: it has no defaults for any of them.
#[derive(Debug, Deserialize)]
#[serde(tag = "messageType", rename_all = "snake_case")]
#[expect(dead_code, reason = "what counts is that they are there")]
enum Sunup {
    Hello {
        uaid: String,
        status: u16,
        use_webpush: bool,
    },
    Register {
        #[serde(rename = "channelID")]
        channel: String,
        status: u16,
        #[serde(rename = "pushEndpoint")]
        endpoint: String,
    },
    Unregister {
        #[serde(rename = "channelID")]
        channel: String,
        status: u16,
    },
    Notification {
        #[serde(rename = "channelID")]
        channel: String,
        version: String,
        data: String,
        headers: Value,
    },
}

fn sunup(told: &Value) -> Sunup {
    serde_json::from_value(told.clone()).unwrap_or_else(|error| panic!("Sunup drops {told}: {error}"))
}

fn hand(house: &House, items: Vec<Item>) -> Result<(), Turned> {
    house.room.hand_over(Consignment { device: DEVICE, items })
}

fn coded(body: &[u8], coding: Coding) -> Item {
    let plain = item(DEVICE, 1, body);
    let message = PushMessage { coding, ..(*plain.message).clone() };
    Item { message: Arc::new(message), ..plain }
}

async fn newcomer(house: &House, hello: Value) -> (Client, Value) {
    let mut client = Client::connect(house.address, "/").await;
    let told = client.ask(hello).await;
    (client, told)
}

#[tokio::test]
async fn a_hello_is_answered_with_a_uaid_of_32_digits() {
    let house = House::start().await;
    let (_client, told) =
        newcomer(&house, json!({"messageType": "hello", "broadcasts": {}, "use_webpush": true})).await;
    let uaid = told["uaid"].as_str().expect("a string");
    assert!(uaid.len() == 32 && uaid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{uaid}");
    assert_eq!(
        told,
        json!({"messageType": "hello", "uaid": uaid, "status": 200, "use_webpush": true, "broadcasts": {}})
    );
    assert!(matches!(sunup(&told), Sunup::Hello { .. }));
}

#[tokio::test]
async fn a_uaid_is_kept_and_an_unknown_or_malformed_one_replaced() {
    let house = House::start().await;
    house.join(DEVICE).await;
    let stranger = format!("{}{}", &uaid(DEVICE)[..16], "00000000000000bb");
    for other in
        [json!(""), json!(null), json!("x"), json!(7), json!(stranger), json!(uaid(DEVICE).replace('a', "A"))]
    {
        let (_, told) = newcomer(&house, json!({"messageType": "hello", "uaid": other})).await;
        assert_eq!(told["status"], 200, "{told}");
        assert_ne!(told["uaid"], other);
    }
}

#[tokio::test]
async fn a_throttled_client_is_not_given_another_uaid() {
    let house = House::start().await;
    let mut client = Client::connect(house.address, "/").await;
    client.say(json!({"messageType": "hello", "uaid": uaid(THROTTLED)})).await;
    assert_eq!(client.hear().await, None, "KUnifiedPush would lose every subscription");
}

#[tokio::test]
async fn a_newcomer_is_written_down_at_its_first_register() {
    let mut house = House::start().await;
    let (mut client, told) = newcomer(&house, json!({"messageType": "hello"})).await;
    assert!(lock(&house.directory.enrolled).is_empty());
    let registered = client.ask(json!({"messageType": "register", "channelID": CHANNEL})).await;
    assert_eq!(registered["status"], 200);
    house.joined().await;
    let enrolled = lock(&house.directory.enrolled).pop().expect("enrolled");
    assert_eq!(told["uaid"], format!("{:016x}{}", enrolled.invitation.device.0, enrolled.invitation.secret));
    assert_eq!(enrolled.transport, "autopush");
    client.ask(json!({"messageType": "register", "channelID": "b"})).await;
    assert!(lock(&house.directory.enrolled).is_empty(), "once");
}

#[tokio::test]
async fn where_no_more_may_register_there_is_no_garbage_in_push_endpoint() {
    let house = House::start().await;
    *lock(&house.directory.full) = true;
    let (mut client, _) = newcomer(&house, json!({"messageType": "hello"})).await;
    let told = client.ask(json!({"messageType": "register", "channelID": CHANNEL})).await;
    assert_eq!(told, json!({"messageType": "register", "channelID": CHANNEL, "status": 500}));
}

#[tokio::test]
async fn nobody_registers_from_outside() {
    let house = House::start().await;
    house.audience.send_replace(Audience::Public);
    for uaid in [json!(null), json!("x"), json!("00000000000000cc00000000000000cc")] {
        let mut client = Client::connect(house.address, "/").await;
        client.say(json!({"messageType": "hello", "uaid": uaid})).await;
        assert_eq!(client.hear().await, None);
    }
    house.join(DEVICE).await;
}

#[tokio::test]
async fn a_devices_own_path_admits_it_with_always_the_same_uaid() {
    let mut house = House::start().await;
    house.audience.send_replace(Audience::Public);
    let mut uaids = Vec::new();
    for given in [json!(null), json!("00000000000000cc00000000000000cc")] {
        let mut client = Client::connect(house.address, &path(DEVICE)).await;
        uaids.push(client.ask(json!({"messageType": "hello", "uaid": given})).await["uaid"].clone());
        house.joined().await;
    }
    assert_eq!(uaids[0], uaids[1]);
    assert!(uaids[0].as_str().expect("text").starts_with(&uaid(DEVICE)[..16]));
    let wrong = path(DEVICE).replace("BwcHBwcHBwc", "BwcHBwcHBwd");
    assert_eq!(Client::try_connect(house.address, &wrong, "").await.err(), Some(404));
}

#[tokio::test]
async fn a_web_page_is_no_distributor() {
    let house = House::start().await;
    for origin in ["https://page.example", "http://localhost:8080", "null"] {
        assert_eq!(Client::try_connect(house.address, "/", origin).await.err(), Some(403), "{origin}");
    }
    let firefox = format!("ws://{}/", house.address);
    assert!(Client::try_connect(house.address, "/", &firefox).await.is_ok());
}

#[tokio::test]
async fn a_channel_is_echoed_exactly_and_its_endpoint_is_open_without_a_key() {
    let house = House::start().await;
    let mut client = house.join(DEVICE).await;
    for channel in [CHANNEL, &CHANNEL.to_uppercase(), "not-a-uuid"] {
        let told = client.ask(json!({"messageType": "register", "channelID": channel})).await;
        let endpoint = "https://push.example.org/wpush/v1/AQEBAQEBAQEBAQEBAQEBAQEBAQE";
        assert_eq!(
            told,
            json!({"messageType": "register", "channelID": channel, "status": 200, "pushEndpoint": endpoint})
        );
        assert!(matches!(sunup(&told), Sunup::Register { .. }));
    }
}

#[tokio::test]
async fn a_key_binds_the_endpoint_with_and_without_padding() {
    let house = House::start().await;
    let mut client = house.join(DEVICE).await;
    for key in [KEY, KEY.trim_end_matches('=')] {
        let told = client.ask(json!({"messageType": "register", "channelID": CHANNEL, "key": key})).await;
        assert!(told["pushEndpoint"].as_str().expect("an endpoint").contains("/wpush/v2/"), "{told}");
        let request = lock(&house.directory.registered).remove(&CHANNEL.parse().expect("valid"));
        assert_eq!(request.expect("asked").vapid.expect("a key").to_string(), KEY.trim_end_matches('='));
    }
}

#[tokio::test]
async fn a_bad_key_or_channel_is_400_without_an_endpoint() {
    let house = House::start().await;
    let mut client = house.join(DEVICE).await;
    for (channel, key) in [(CHANNEL, json!("short")), (CHANNEL, json!(7)), ("", json!(null))] {
        let told = client.ask(json!({"messageType": "register", "channelID": channel, "key": key})).await;
        assert_eq!(told, json!({"messageType": "register", "channelID": channel, "status": 400}));
    }
    assert!(lock(&house.directory.registered).is_empty());
}

#[tokio::test]
async fn unregister_ends_a_registration_and_is_told_of_one_that_the_owner_ended() {
    let house = House::start().await;
    let mut client = house.join(DEVICE).await;
    let told = client.ask(json!({"messageType": "unregister", "channelID": CHANNEL, "code": 200})).await;
    assert_eq!(told, json!({"messageType": "unregister", "channelID": CHANNEL, "status": 200}));
    assert!(matches!(sunup(&told), Sunup::Unregister { .. }));
    assert_eq!(lock(&house.directory.unregistered)[0].as_str(), CHANNEL);
    house.room.tell(Notice::Unregistered(DEVICE, "gone".parse().expect("valid")));
    assert_eq!(client.hear().await.expect("told")["channelID"], "gone");
}

#[tokio::test]
async fn a_notification_has_headers_whenever_it_has_data() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    let aesgcm = Coding {
        content_encoding: Some("aesgcm".into()),
        crypto_key: Some("dh=\"BA==\"".into()),
        encryption: Some("salt=AAAA=".into()),
    };
    let aes128gcm = Coding { content_encoding: Some("aes128gcm".into()), ..Coding::default() };
    for (coding, headers) in [
        (aesgcm, json!({"encoding": "aesgcm", "crypto_key": "dh=BA", "encryption": "salt=AAAA"})),
        (aes128gcm, json!({"encoding": "aes128gcm"})),
        (Coding::default(), json!({})),
    ] {
        let item = coded(b"\xff\xfe\xfd\xfc", coding);
        let version = item.token.to_string();
        assert_eq!(hand(&house, vec![item]), Ok(()));
        let told = client.hear().await.expect("a notification");
        assert_eq!(
            told,
            json!({"messageType": "notification", "channelID": "app", "version": version, "data": "__79_A", "headers": headers})
        );
        assert!(matches!(sunup(&told), Sunup::Notification { .. }));
    }
}

#[tokio::test]
async fn an_empty_notification_has_neither_data_nor_headers() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    assert_eq!(hand(&house, vec![coded(b"", Coding::default())]), Ok(()));
    let told = client.hear().await.expect("a notification");
    assert!(told.get("data").is_none() && told.get("headers").is_none(), "{told}");
}

#[tokio::test]
async fn a_single_acknowledgement_counts_whatever_its_code() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    assert_eq!(hand(&house, (1..=3).map(|id| item(DEVICE, id, b"x")).collect()), Ok(()));
    let mut versions = Vec::new();
    for _ in 0..3 {
        versions.push(client.hear().await.expect("a notification")["version"].clone());
    }
    for (nth, code) in [(1, json!(101)), (0, json!(null)), (2, json!(102))] {
        client
            .say(json!({"messageType": "ack", "updates": [{"version": versions[nth], "code": code}]}))
            .await;
        let acked =
            house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None }).await;
        assert_eq!(acked, [MessageId(nth as u64 + 1)]);
    }
}

#[tokio::test]
async fn a_client_that_never_acknowledges_stalls_nobody() {
    let limits = Limits { unacked: Duration::from_millis(50), ..Limits::default() };
    let mut house = House::with(limits).await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    let window = |from: u64| (from..from + 50).map(|id| item(DEVICE, id, b"x")).collect::<Vec<_>>();
    assert_eq!(hand(&house, window(1)), Ok(()));
    assert_eq!(hand(&house, window(51)), Err(Turned::Full));
    let first = client.hear().await.expect("a notification")["version"].clone();
    let mut parked = Vec::new();
    while parked.len() < 50 {
        parked.append(
            &mut house
                .event(
                    |event| {
                        if let Event::Turned(ids, Turned::Parked) = event { Some(ids.clone()) } else { None }
                    },
                )
                .await,
        );
    }
    assert_eq!(hand(&house, window(51)), Ok(()), "those that wait behind go on");
    client.ack(&first).await;
    let acked =
        house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None }).await;
    assert_eq!(acked, [MessageId(1)], "late, and it counts all the same");
}

#[tokio::test]
async fn pings_of_the_application_are_answered_and_nothing_ends_the_connection() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    assert_eq!(client.ask(json!({})).await, json!({}));
    assert_eq!(client.ask(json!({"messageType": "ping"})).await, json!({}));
    for silent in [
        json!({"messageType": "nack", "version": "x", "code": 302}),
        json!({"messageType": "broadcast_subscribe", "broadcasts": {"remote-settings/monitor_changes": "1"}}),
        json!({"messageType": "of-the-future", "channelID": [1]}),
        json!({"messageType": "ack", "updates": [7, {"version": 7}, {"version": "x"}, null]}),
        json!({"messageType": "ack"}),
    ] {
        client.say(silent).await;
    }
    assert_eq!(
        client.ask(json!({"messageType": "urgency", "min": "high"})).await,
        json!({"messageType": "urgency", "status": 200})
    );
    let state = house.event(|event| if let Event::State(state) = event { Some(*state) } else { None }).await;
    assert_eq!(state.urgency, Some(Urgency::High));
    assert_eq!(client.ask(json!({"messageType": "urgency", "min": "some"})).await["status"], 400);
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection_without_a_close_frame() {
    let mut house = House::start().await;
    for wrong in [
        Message::text("{"),
        Message::text("[]"),
        Message::binary(vec![1]),
        Message::text(r#"{"messageType":"hello"}"#),
    ] {
        let mut client = house.join(DEVICE).await;
        house.joined().await;
        client.send(wrong).await;
        assert_eq!(client.hear().await, None);
    }
    let mut client = Client::connect(house.address, "/").await;
    client.say(json!({"messageType": "register", "channelID": CHANNEL})).await;
    assert_eq!(client.hear().await, None, "hello comes first");
    let mut client = house.join(DEVICE).await;
    // The room may be gone before it has read all of that.
    let _ = futures_util::SinkExt::send(&mut client.0, Message::text("x".repeat(70_000))).await;
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn whoever_does_not_say_hello_is_put_out() {
    let house = House::with(Limits { greeting: Duration::from_millis(50), ..Limits::default() }).await;
    let mut client = Client::connect(house.address, "/").await;
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn a_new_connection_replaces_the_old_one() {
    let mut house = House::start().await;
    let mut old = house.join(DEVICE).await;
    house.joined().await;
    let mut new = house.join(DEVICE).await;
    assert_eq!(old.hear().await, None);
    let parting =
        house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await;
    assert_eq!(parting, Parting::Lost, "its network has, as it has not ended the old one itself");
    house.joined().await;
    assert_eq!(hand(&house, vec![item(DEVICE, 1, b"x")]), Ok(()));
    assert_eq!(new.hear().await.expect("to the new one")["messageType"], "notification");
}

#[tokio::test]
async fn a_closed_end_is_closed_and_a_reset_is_lost() {
    for (resets, wanted) in [(false, Parting::Closed), (true, Parting::Lost)] {
        let mut house = House::start().await;
        let client = house.join(DEVICE).await;
        house.joined().await;
        if resets {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let socket = client.0.get_ref();
            nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Linger, &linger)
                .expect("can be set");
        }
        drop(client);
        let parting =
            house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await;
        assert_eq!(parting, wanted);
    }
}

#[tokio::test]
async fn a_clients_ping_is_answered_and_is_a_contact() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    client.send(Message::Ping("x".into())).await;
    house.event(|event| matches!(event, Event::Stirred).then_some(())).await;
    let pong = soon(futures_util::StreamExt::next(&mut client.0)).await.expect("there").expect("a frame");
    assert_eq!(pong, Message::Pong("x".into()));
}

#[tokio::test]
async fn the_gateway_pings_by_a_frame_and_a_missing_pong_is_a_lost_network() {
    let mut house = House::with(Limits { pong: Duration::from_millis(100), ..Limits::default() }).await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    assert_eq!(house.room.ping(DeviceId(1)), Err(Turned::Absent));
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    let ping = soon(futures_util::StreamExt::next(&mut client.0)).await.expect("there").expect("a frame");
    assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
    // The library answers with the next thing that is done.
    client.ask(json!({})).await;
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    let parting =
        house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await;
    assert_eq!(parting, Parting::Lost);
}

#[tokio::test]
async fn what_has_no_registration_any_more_is_not_sent() {
    let mut house = House::start().await;
    let _client = house.join(DEVICE).await;
    house.joined().await;
    let plain = item(DEVICE, 9, b"x");
    let message = PushMessage { registration: RegistrationId(6), ..(*plain.message).clone() };
    assert_eq!(hand(&house, vec![Item { message: Arc::new(message), ..plain }]), Ok(()));
    let turned =
        house.event(|event| if let Event::Turned(ids, _) = event { Some(ids.clone()) } else { None }).await;
    assert_eq!(turned, [MessageId(9)]);
}

#[tokio::test]
async fn the_room_ends_its_connections_when_the_gateway_stops() {
    let mut house = House::start().await;
    let mut client = house.join(DEVICE).await;
    house.joined().await;
    house.shutdown.send_replace(true);
    soon(house.running).await.expect("no panic");
    assert_eq!(client.hear().await, None);
    assert_eq!(Client::try_connect(house.address, "/", "").await.err(), Some(503));
}

#[test]
fn a_clients_own_pings_are_its_pulse() {
    use crate::{
        clock::{Clock as _, ManualClock},
        model::UnixTime,
        transport::autopush::session::{Access, Session},
    };
    let start = ManualClock::new(UnixTime(0)).moment().instant;
    let access = Access::Uaid(Audience::Home);
    let mut session = Session::new(access, [127, 0, 0, 1].into(), String::new(), Limits::default(), start);
    session.receive(&TestDirectory::default(), r#"{"messageType":"hello"}"#);
    assert_eq!(session.pulse(), Pulse::Gateway(Duration::from_secs(1800)), "nothing is known yet");
    let mut pulses = Vec::new();
    for second in [60, 120, 181, 184, 240, 1500] {
        session.pinged(start + Duration::from_secs(second));
        pulses.extend(session.take().pulse);
    }
    let device = |seconds| Pulse::Device(Duration::from_secs(seconds));
    assert_eq!(pulses, [device(60), device(1260)]);
    // When they stop, the gateway asks again.
    let end = start + Duration::from_secs(1500 + 3 * 1260);
    assert_eq!(session.deadline(), Some(end));
    session.on_time(end - Duration::from_secs(1));
    assert_eq!(session.take().pulse, None);
    session.on_time(end);
    assert_eq!(session.take().pulse, Some(Pulse::Gateway(Duration::from_secs(1800))));
}
