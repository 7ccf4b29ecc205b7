//! Topics, filters and shapes.

use super::*;

const DEVICE: DeviceId = DeviceId(7);

#[test]
fn a_device_subscribes_within_its_inbox_only() {
    let own = |rest: &str| format!("up/{DEVICE}/{rest}");
    for filter in ["inbox/#", "inbox/push/+", "inbox/+/+", "inbox/endpoint", "inbox", "inbox/+/#"] {
        assert_eq!(check_filter(DEVICE, &own(filter)), Ok(()), "{filter}");
    }
    let other = format!("up/{}/inbox/#", DeviceId(8));
    for filter in ["#", "+/+/inbox/#", "$SYS/#", "up/#", &own("#"), &own("inboxes/x"), &own("+/x"), &other] {
        assert_eq!(check_filter(DEVICE, filter), Err(FilterRefusal::Foreign), "{filter}");
    }
    for filter in ["", &own("inbox/#/b"), &own("inbox/a#"), &own("inbox/a+"), &own("inbox/\0")] {
        assert_eq!(check_filter(DEVICE, filter), Err(FilterRefusal::Invalid), "{filter}");
    }
    let shared = format!("$share/g/up/{DEVICE}/inbox/#");
    assert_eq!(check_filter(DEVICE, &shared), Err(FilterRefusal::Shared));
}

#[test]
fn filters_match_as_the_standard_says() {
    for (filter, topic, expected) in [
        ("a/#", "a/b/c", true),
        ("a/#", "a", true),
        ("a/b/#", "a", false),
        ("a/+", "a/b", true),
        ("a/+", "a/b/c", false),
        ("a/+", "a/", true),
        ("a/b", "a/b", true),
        ("a/b/", "a/b", false),
        ("a/c", "a/b", false),
    ] {
        assert_eq!(overlaps(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn one_channel_is_enough_to_want_pushes() {
    let wants = |leaf: &str| wants_pushes(&[(inbox(DEVICE, leaf).into(), 1)], DEVICE);
    assert!(wants("#") && wants("push/+") && wants("push/0000000000001") && wants("+/+"));
    assert!(!wants("endpoint") && !wants("push") && !wants("push/a/b") && !wants("+"));
}

#[test]
fn overlapping_subscriptions_grant_the_higher_qos() {
    let filters = [(inbox(DEVICE, "#").into(), 0), (inbox(DEVICE, "push/+").into(), 1)];
    assert_eq!(granted(&filters, &inbox(DEVICE, "push/x")), Some(1));
    assert_eq!(granted(&filters, &inbox(DEVICE, "endpoint")), Some(0));
    assert_eq!(granted(&filters[1..], &inbox(DEVICE, "endpoint")), None);
}

#[test]
fn an_outbox_is_its_own_devices() {
    assert_eq!(outbox(DEVICE, &format!("up/{DEVICE}/outbox/register")), Some(Outbox::Register));
    assert_eq!(outbox(DEVICE, &format!("up/{DEVICE}/outbox/x/y")), Some(Outbox::Unknown));
    assert_eq!(outbox(DEVICE, &format!("up/{DEVICE}/inbox/register")), None);
    assert_eq!(outbox(DeviceId(8), &format!("up/{DEVICE}/outbox/register")), None);
}

#[test]
fn registrations_are_read_leniently_and_refused_with_their_token() {
    let request = register(br#"{"token":"t","description":"Chat","later":[1]}"#).expect("valid");
    assert_eq!((request.token.as_str(), &*request.app, request.vapid), ("t", "Chat", None));
    let bad = register(br#"{"token":"t","app":7}"#).expect_err("app is no text");
    assert_eq!((bad.reason, bad.token.as_str()), ("INTERNAL_ERROR", "t"));
    assert_eq!(register(b"{").expect_err("no JSON").token, "");
    let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(101));
    assert_eq!(register(long.as_bytes()).expect_err("101 bytes").token.len(), 101);
    let bad = register(br#"{"token":"t","vapid":"BA"}"#).expect_err("no key");
    assert_eq!(bad.reason, "VAPID_REQUIRED");
}

#[test]
fn states_are_read_in_any_subset() {
    assert_eq!(state(b"{}"), Ok(DeviceState::default()));
    let said = state(br#"{"urgency":"high","power":"low","network":"wifi","screen":"off"}"#);
    let expected = DeviceState {
        network: Some(Network::Wifi),
        power: Some(Power::Low),
        screen: Some(false),
        urgency: Some(Urgency::High),
    };
    assert_eq!(said, Ok(expected));
    assert!(state(br#"{"urgency":"urgent"}"#).is_err());
}

#[test]
fn answers_go_to_a_response_topic_within_the_inbox_only() {
    let own = inbox(DEVICE, "answers/1");
    let there = ReplyTo::new(DEVICE, Some(&own), Some(b"7")).unregistered(DEVICE, "t");
    assert_eq!((there.topic.as_str(), there.correlation.as_deref()), (own.as_str(), Some(&b"7"[..])));
    for other in [inbox(DeviceId(8), "x"), inbox(DEVICE, "#"), "x".to_owned()] {
        let answer = ReplyTo::new(DEVICE, Some(&other), None).refused(DEVICE, "t", "NETWORK");
        assert_eq!(answer.topic, inbox(DEVICE, "refused"));
        assert_eq!(answer.body, br#"{"token":"t","reason":"NETWORK"}"#);
    }
}
