//! Notifications of servers, and the command that asks for them.

use super::house::{ALICE, APP, House, Peer};
use crate::model::{RegistrationId, Urgency, VapidKey};

const COMMAND: &str = "<command xmlns='http://jabber.org/protocol/commands' node='register-push-unifiedpush'";

fn command(from: &str, rest: &str) -> String {
    format!("<iq type='set' id='c' from='{from}' to='push.home.test'>{COMMAND}{rest}</iq>")
}

fn submit(from: &str, endpoint: &str) -> String {
    let field = format!("<field var='endpoint'><value>{endpoint}</value></field>");
    command(from, &format!(" sessionid='s'><x xmlns='jabber:x:data' type='submit'>{field}</x></command>"))
}

/// As Prosody sends it (`type='form'`, a count), or as ejabberd does.
fn notification(from: &str, node: &str, secret: &str, body: Option<&str>, prosody: bool) -> String {
    let (kind, count) = match prosody {
        true => ("form", "<field type='text-single' var='message-count'><value>1</value></field>"),
        false => ("submit", ""),
    };
    let body = body.map_or(String::new(), |body| {
        format!("<field type='text-single' var='last-message-body'><value>{body}</value></field>")
    });
    format!(
        "<iq type='set' id='n+/=' from='{from}' to='push.home.test'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'><item><notification xmlns='urn:xmpp:push:0'><x xmlns='jabber:x:data' type='{kind}'><field type='hidden' var='FORM_TYPE'><value>urn:xmpp:push:summary</value></field>{count}{body}</x></notification></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='secret'><value>{secret}</value></field></x></publish-options></pubsub></iq>"
    )
}

/// The value of a field of a form.
fn field(form: &str, name: &str) -> String {
    let (_, rest) =
        form.split_once(&format!("<field var='{name}'><value>")).unwrap_or_else(|| panic!("{form}"));
    rest.split_once('<').expect("an end").0.to_owned()
}

async fn bound() -> (House, Peer, String, String) {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    let endpoint = peer.register(ALICE, APP).await;
    let form = peer.ask(&submit("bob@home.test/desk", &endpoint)).await;
    assert!(form.contains("status='completed'"), "{form}");
    assert_eq!(field(&form, "jid"), "push.home.test");
    let (node, secret) = (field(&form, "node"), field(&form, "secret"));
    (house, peer, node, secret)
}

#[tokio::test]
async fn an_endpoint_is_bound_by_a_command() {
    let (_house, mut peer, node, secret) = bound().await;
    let endpoint = peer.register(ALICE, APP).await;
    let again =
        peer.ask(&submit("bob@home.test/other", endpoint.rsplit('/').next().expect("a segment"))).await;
    assert_eq!((field(&again, "node"), field(&again, "secret")), (node.clone(), secret.clone()));
    let alice = peer.ask(&submit(ALICE, &endpoint)).await;
    assert_ne!((field(&alice, "node"), field(&alice, "secret")), (node, secret), "each account has its own");
    // Who asks for the form first gets it, with the session's name that is to be given back.
    let form = peer.ask(&command(ALICE, " action='execute'/>")).await;
    assert!(
        form.contains(
            "status='executing'><x xmlns='jabber:x:data' type='form'><field type='text-single' var='endpoint'"
        ),
        "{form}"
    );
    assert!(
        peer.ask(&command(ALICE, " action='cancel' sessionid='s'/>"))
            .await
            .contains("sessionid='s' status='canceled'/>")
    );
    let items = "<iq type='get' id='d' from='x@y/z' to='push.home.test'><query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/></iq>";
    let items = peer.ask(items).await;
    assert!(items.contains("<item jid='push.home.test' node='register-push-unifiedpush' name='"), "{items}");
}

#[tokio::test]
async fn what_cannot_be_bound_gets_the_right_error() {
    let (house, mut peer, _, _) = bound().await;
    let endpoint = peer.register(ALICE, APP).await;
    for (stanza, error) in [
        (submit("eve@evil.test/x", &endpoint), "type='auth'><forbidden "),
        (submit("home.test", &endpoint), "type='auth'><forbidden "),
        (
            submit(ALICE, "https://push.example.org/p/CQkJCQkJCQkJCQkJCQkJCQkJCQk"),
            "type='cancel'><item-not-found ",
        ),
        (submit(ALICE, "nonsense"), "type='cancel'><item-not-found "),
        (submit(ALICE, &endpoint).replace("var='endpoint'", "var='other'"), "type='modify'><bad-request "),
        (command(ALICE, " action='prev'/>"), "type='modify'><bad-request "),
        (
            command(ALICE, "/>").replace("register-push-unifiedpush", "other"),
            "type='cancel'><item-not-found ",
        ),
    ] {
        let answer = peer.ask(&stanza).await;
        assert!(answer.contains(error), "{stanza}\n{answer}");
    }
    let mut key = [1; 65];
    key[0] = 4;
    house.directory.known()[0].0.vapid = VapidKey::from_bytes(&key).ok();
    let answer = peer.ask(&submit(ALICE, &endpoint)).await;
    assert!(answer.contains("type='cancel'><not-allowed "), "{answer}");
}

#[tokio::test]
async fn a_notification_is_a_push_and_its_body_is_its_urgency() {
    let (house, mut peer, node, secret) = bound().await;
    for (number, (body, prosody, urgency)) in [
        (Some("New Message!"), true, Urgency::High),
        (None, true, Urgency::Low),
        (Some(""), false, Urgency::Low),
        (Some("New Message!"), false, Urgency::High),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = peer.ask(&notification("home.test", &node, &secret, body, prosody)).await;
        assert_eq!(answer, "<iq type='result' id='n+/=' from='push.home.test' to='home.test'/>");
        let posted = house.post.posted();
        assert_eq!(posted.len(), number + 1);
        assert_eq!((posted[number].urgency, posted[number].registration.id), (urgency, RegistrationId(5)));
        assert_eq!(&posted[number].body[..], br#"{"xmpp":"push"}"#);
        let topic = posted[number].topic.as_ref().map(|topic| topic.as_str().to_owned());
        assert_eq!(
            topic.as_deref(),
            Some(&*format!("xmpp-push-{urgency}")),
            "what is low takes no high one's place"
        );
    }
}

#[tokio::test]
async fn the_same_event_twice_is_one_push() {
    let (house, mut peer, node, secret) = bound().await;
    let event = notification("home.test", &node, &secret, Some("New Message!"), true);
    for _ in 0..2 {
        assert!(peer.ask(&event).await.starts_with("<iq type='result' "));
    }
    assert_eq!(house.post.posted().len(), 1);
    let other = event.replace("<value>1</value>", "<value>2</value>");
    assert!(peer.ask(&other).await.starts_with("<iq type='result' "));
    assert_eq!(house.post.posted().len(), 2, "another message is another event");
}

#[tokio::test]
async fn servers_neither_give_up_early_nor_go_on_in_vain() {
    let (house, mut peer, node, secret) = bound().await;
    let of = |from: &str, node: &str, secret: &str| notification(from, node, secret, Some("x"), true);
    for (stanza, error) in [
        (of("evil.test", &node, &secret), "type='auth'><forbidden "),
        (of("home.test", &node, "wrong"), "type='auth'><forbidden "),
        (of("home.test", &node, ""), "type='auth'><forbidden "),
        (of("home.test", "0000000000000.0000000000000", &secret), "type='cancel'><item-not-found "),
        (of("home.test", "nonsense", &secret), "type='cancel'><item-not-found "),
        (of("home.test", &node, &secret).replace("urn:xmpp:push:0", "x"), "type='modify'><bad-request "),
        (of("home.test", &node, &secret).replace(" node='", " nodes='"), "type='modify'><bad-request "),
    ] {
        let answer = peer.ask(&stanza).await;
        assert!(answer.contains(error), "{stanza}\n{answer}");
    }
    assert!(house.post.posted().is_empty());
    // What passes is no reason to forget the phone, and the same event may come again.
    house.post.fail(true);
    let event = of("home.test", &node, &secret);
    assert!(peer.ask(&event).await.contains("type='wait'><resource-constraint "));
    house.post.fail(false);
    assert!(peer.ask(&event).await.starts_with("<iq type='result' "));
    assert_eq!(house.post.posted().len(), 1);
    house.directory.known().clear();
    assert!(peer.ask(&event).await.contains("type='cancel'><item-not-found "));
}
