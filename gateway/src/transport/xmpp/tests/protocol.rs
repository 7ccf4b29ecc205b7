//! Registrations, pushes and their answers.

use std::{sync::Arc, time::Duration};

use super::house::{ALICE, APP, House, INSTANCE, OTHER, Peer, attribute, register};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{DeviceId, MessageId, RegistrationId, UnixTime},
    transport::{Consignment, Event, Item, Parting, Transport as _, Turned, battery},
};

const GONE: &str =
    "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
const OFFLINE: &str = "<push xmlns='http://gultsch.de/xmpp/drafts/unified-push'>YQ==</push><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
/// 2026-11-23T17:24:10Z
const NOW: UnixTime = UnixTime(1_795_454_650_000);
const DAY: Duration = Duration::from_secs(86_400);

fn send(house: &House, device: DeviceId, registration: u64, ids: &[u64]) {
    let items: Vec<Item> = ids
        .iter()
        .map(|&id| {
            let mut item = battery::item(device, id, b"hello");
            let mut message = (*item.message).clone();
            message.registration = RegistrationId(registration);
            item.message = Arc::new(message);
            item
        })
        .collect();
    assert_eq!(house.room.hand_over(Consignment { device, items }), Ok(()));
}

async fn registered() -> (House, Peer, DeviceId) {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    peer.register(ALICE, APP).await;
    assert!(house.joined().await, "it has just been heard");
    let device = house.device();
    (house, peer, device)
}

#[tokio::test]
async fn a_registration_is_for_seven_days_and_ends_in_z() {
    let mut house = House::at(Arc::new(ManualClock::new(NOW))).await;
    let mut peer = house.accept().await;
    let answer = peer.ask(&register(ALICE, APP, INSTANCE)).await;
    let head = format!("<iq type='result' id='r1' from='push.home.test' to='{ALICE}'>");
    let registered = "<registered xmlns='http://gultsch.de/xmpp/drafts/unified-push' endpoint='https://push.example.org/p/";
    assert!(answer.starts_with(&format!("{head}{registered}")), "{answer}");
    assert!(answer.ends_with("' expiration='2026-11-30T17:24:10Z'/></iq>"), "{answer}");
    let (registration, address) = house.directory.known()[0].clone();
    assert_eq!(registration.token.as_str(), format!("{APP} {INSTANCE}"));
    assert_eq!((&*registration.app, &*address.text), ("app p+HvF3DM", ALICE));
    assert_eq!(
        *house.directory.enrolled.lock().expect("no panic"),
        [(registration.device, "alice@home.test".into())]
    );
}

#[tokio::test]
async fn an_endpoint_stays_when_the_resource_changes_and_pushes_follow() {
    let (house, mut peer, device) = registered().await;
    let endpoint = peer.register(ALICE, APP).await;
    let other = "alice@home.test/Conversations.zzzz";
    assert_eq!(peer.register(other, APP).await, endpoint);
    assert_eq!(house.device(), device);
    send(&house, device, 5, &[1]);
    let push = peer.hear().await.expect("a push");
    assert_eq!(attribute(&push, "to").as_deref(), Some(other));
    assert!(push.contains(&format!(
        "<push xmlns='http://gultsch.de/xmpp/drafts/unified-push' application='{APP}' instance='{INSTANCE}'>aGVsbG8=</push></iq>"
    )));
    assert_eq!(attribute(&push, "id").map(|id| id.len()), Some(32), "128 bits");
}

#[tokio::test]
async fn a_renewal_within_the_hour_is_not_written_again() {
    let clock = Arc::new(ManualClock::new(NOW));
    let mut house = House::at(Arc::clone(&clock)).await;
    let mut peer = house.accept().await;
    peer.register(ALICE, APP).await;
    let expires = |house: &House| house.directory.known()[0].1.expires.expect("known").0;
    let first = expires(&house);
    clock.advance(Duration::from_secs(3599));
    let answer = peer.ask(&register(ALICE, APP, INSTANCE)).await;
    assert_eq!(attribute(&answer, "expiration").as_deref(), Some("2026-11-30T17:24:10Z"));
    assert_eq!(expires(&house), first);
    clock.advance(Duration::from_secs(1));
    peer.register(ALICE, APP).await;
    assert_eq!(expires(&house), first + 3_600_000);
}

#[tokio::test]
async fn what_nobody_renews_ends_thirty_days_after_what_was_announced() {
    let clock = Arc::new(ManualClock::new(NOW));
    let mut house = House::at(Arc::clone(&clock)).await;
    house.accept().await.register(ALICE, APP).await;
    clock.advance(37 * DAY);
    // Looked for at each connection, and then every hour.
    assert!(house.accept().await.is_alive().await);
    assert_eq!(house.directory.known().len(), 1);
    clock.jump(1, false);
    assert!(house.accept().await.is_alive().await);
    assert_eq!(house.directory.known().len(), 1, "the clock is not trusted");
    clock.jump(0, true);
    let mut peer = house.accept().await;
    assert!(peer.is_alive().await);
    while !house.directory.known().is_empty() {
        assert!(peer.is_alive().await);
    }
}

#[tokio::test]
async fn wrong_requests_get_the_right_error() {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    let bad = "type='modify'><bad-request ";
    let forbidden = "type='auth'><forbidden ";
    let long = format!("{}=", "A".repeat(47));
    for (from, application, instance, error) in [
        (ALICE, "", INSTANCE, bad),
        (ALICE, APP, "too short", bad),
        (ALICE, " p+HvF3DME9ZnPVoyg/akc/LaRXOBSVIh4OSYCrpObxk", INSTANCE, bad),
        (ALICE, APP, "oUYo9utYjF/RJZ1jA2MwY1pL/T1v1wqmPfj6tI7ezWw=\n", bad),
        (ALICE, "p+HvF3DME9ZnPVoyg/akc/LaRXOBSVIh4OSYCrpObxl=", INSTANCE, bad),
        (ALICE, "p-HvF3DME9ZnPVoyg_akc_LaRXOBSVIh4OSYCrpObxk=", INSTANCE, bad),
        (ALICE, APP, &long, bad),
        ("alice@home.test", APP, INSTANCE, bad),
        ("home.test", APP, INSTANCE, forbidden),
        ("alice@evil.test/x", APP, INSTANCE, forbidden),
        ("alice@evil.home.test/x", APP, INSTANCE, forbidden),
        ("home.test@evil.test/home.test", APP, INSTANCE, forbidden),
    ] {
        let answer = peer.ask(&register(from, application, instance)).await;
        assert!(answer.starts_with("<iq type='error' id='r1' from='push.home.test' to='"), "{answer}");
        assert!(answer.contains(error), "{from} {application} {instance}: {answer}");
    }
    let missing = register(ALICE, APP, INSTANCE).replace(" instance=", " instant=");
    assert!(peer.ask(&missing).await.contains(bad));
    let node = register(ALICE, APP, INSTANCE).replace("'push.home.test'", "'x@push.home.test'");
    assert!(peer.ask(&node).await.contains("type='cancel'><service-unavailable "));
    assert!(house.directory.known().is_empty());
}

#[tokio::test]
async fn an_account_has_so_many_registrations_and_no_more() {
    let (_house, mut peer, _) = registered().await;
    peer.register(ALICE, OTHER).await;
    peer.register(ALICE, INSTANCE).await;
    let fourth = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let answer = peer.ask(&register(ALICE, fourth, INSTANCE)).await;
    assert!(answer.contains("type='wait'><resource-constraint "), "{answer}");
    peer.register(ALICE, APP).await;
    peer.register("bob@home.test/phone", fourth).await;
}

#[tokio::test]
async fn everybody_is_told_what_the_component_is() {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    let mut get = async |query: &str| {
        peer.ask(&format!("<iq type='get' id='d' from='eve@evil.test/x' to='push.home.test'>{query}</iq>"))
            .await
    };
    let info = get("<query xmlns='http://jabber.org/protocol/disco#info'/>").await;
    assert!(info.contains("<feature var='http://gultsch.de/xmpp/drafts/unified-push'/>"), "{info}");
    assert!(info.contains("<identity category='component' type='generic' "), "{info}");
    assert!(get("<ping xmlns='urn:xmpp:ping'/>").await.starts_with("<iq type='result' id='d' "));
    for unknown in [
        "<query xmlns='jabber:iq:version'/>",
        "<register xmlns='http://gultsch.de/xmpp/drafts/unified-push'/>",
    ] {
        assert!(get(unknown).await.contains("<service-unavailable "), "{unknown}");
    }
}

#[tokio::test]
async fn only_two_answers_end_a_registration() {
    let (mut house, mut peer, device) = registered().await;
    for (id, name) in [
        (1, "service-unavailable"),
        (2, "recipient-unavailable"),
        (3, "bad-request"),
        (4, "internal-server-error"),
        (5, "not-a-condition"),
    ] {
        send(&house, device, 5, &[id]);
        let push = peer.hear().await.expect("a push");
        peer.answer(&push, "error", &GONE.replace("item-not-found", name)).await;
        let parting =
            house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None });
        assert_eq!(parting.await, Parting::Closed, "{name}");
        assert_eq!(house.directory.known().len(), 1, "{name}");
        peer.say(&format!("<presence from='{ALICE}' to='push.home.test'/>")).await;
        house.joined().await;
    }
    for name in ["item-not-found", "feature-not-implemented"] {
        peer.register(ALICE, APP).await;
        send(&house, device, 5, &[6]);
        let push = peer.hear().await.expect("a push");
        peer.answer(&push, "error", &GONE.replace("item-not-found", name)).await;
        let turned =
            house.event(|event| if let Event::Turned(ids, _) = event { Some(ids.clone()) } else { None });
        assert_eq!(turned.await, [MessageId(6)], "it takes no room in the window any more");
        assert!(house.directory.known().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_error_is_found_behind_the_repeated_request() {
    let (mut house, mut peer, device) = registered().await;
    send(&house, device, 5, &[1]);
    let push = peer.hear().await.expect("a push");
    peer.answer(&push, "error", &OFFLINE.replace("service-unavailable", "item-not-found")).await;
    house.event(|event| matches!(event, Event::Turned(..)).then_some(())).await;
    assert!(house.directory.known().is_empty());
}

#[tokio::test]
async fn nobody_answers_for_somebody_else() {
    let (mut house, mut peer, device) = registered().await;
    send(&house, device, 5, &[1]);
    let push = peer.hear().await.expect("a push");
    for from in ["alice@home.test/other", "alice@home.test", "eve@home.test/Conversations.aB3d", "home.test"]
    {
        peer.answer(&push.replace(ALICE, from), "result", "").await;
        peer.answer(&push.replace(ALICE, from), "error", GONE).await;
    }
    let id = attribute(&push, "id").expect("an id");
    peer.say(&format!("<iq type='result' id='{id}' to='push.home.test'/>")).await;
    assert!(peer.is_alive().await);
    assert_eq!(house.directory.known().len(), 1);
    peer.answer(&push, "result", "").await;
    let acked = house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None });
    assert_eq!(acked.await, [MessageId(1)]);
}

#[tokio::test]
async fn the_second_phone_of_an_account_does_without_the_first() {
    let (mut house, mut peer, device) = registered().await;
    let second = "alice@home.test/Tablet";
    peer.register(second, OTHER).await;
    house.joined().await;
    peer.say(&format!("<presence type='unavailable' from='{ALICE}' to='push.home.test'/>")).await;
    assert!(peer.is_alive().await);
    // The account is there, but not the phone of this app: not before it comes.
    send(&house, device, 5, &[1]);
    let turned = house
        .event(|event| if let Event::Turned(ids, why) = event { Some((ids.clone(), *why)) } else { None });
    assert_eq!(turned.await, (vec![MessageId(1)], Turned::Parked));
    send(&house, device, 6, &[2]);
    let push = peer.hear().await.expect("a push");
    assert_eq!(attribute(&push, "to").as_deref(), Some(second));
    peer.say(&format!("<presence from='{ALICE}' to='push.home.test'/>")).await;
    house.joined().await;
    // All that is unsettled is handed over again; what is on its way to the second is not sent to it again.
    send(&house, device, 6, &[2]);
    send(&house, device, 5, &[1]);
    let push = peer.hear().await.expect("a push");
    assert_eq!(attribute(&push, "to").as_deref(), Some(ALICE));
}

#[tokio::test]
async fn whoever_has_not_registered_is_nobodys_phone() {
    let (mut house, mut peer, device) = registered().await;
    for from in ["eve@home.test/x", "alice@home.test/other", "alice@home.test", "home.test"] {
        peer.say(&format!("<presence from='{from}' to='push.home.test'/>")).await;
        peer.say(&format!("<presence type='unavailable' from='{from}' to='push.home.test'/>")).await;
    }
    assert!(peer.is_alive().await);
    house.room.tell(crate::transport::Notice::Expelled(device));
    let next = super::house::soon(house.reports.recv()).await.expect("a report");
    assert_eq!(next.event, Event::Left(Parting::Ended), "and of the others nothing was reported");
    peer.say(&format!("<presence from='{ALICE}' to='push.home.test'/>")).await;
    assert!(peer.is_alive().await);
    assert!(house.reports.try_recv().is_err(), "nor of who was removed");
}

#[tokio::test]
async fn registrations_are_found_again_by_time_alone() {
    // The clock that nobody trusts: what it says is not written down.
    let clock = Arc::new(ManualClock::new(UnixTime(0)));
    clock.jump(0, false);
    let mut house = House::at(Arc::clone(&clock)).await;
    let mut peer = house.accept().await;
    let answer = peer.ask(&register(ALICE, APP, INSTANCE)).await;
    assert_eq!(attribute(&answer, "expiration").as_deref(), Some("1970-01-08T00:00:00Z"));
    assert_eq!(house.directory.known()[0].1.expires, None);
    clock.jump(i64::try_from(NOW.0).expect("fits"), true);
    assert_eq!(clock.moment().wall, NOW);
    drop(peer);
    assert!(house.accept().await.is_alive().await);
    assert_eq!(house.directory.known().len(), 1);
}
