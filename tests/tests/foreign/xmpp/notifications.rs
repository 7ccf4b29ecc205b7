//! Push notifications of real servers (XEP-0357): a session that cannot be reached is told of by a push to an
//! endpoint that its user has bound.

use std::time::{Duration, Instant};

use harness::{Pushed, Registered, XmppDaemon};
use serde_json::Value;

use super::Lab;

/// What an app is told, and how long the gateway takes the same notification for the same event.
const BODY: &[u8] = br#"{"xmpp":"push"}"#;
const SAME_EVENT: Duration = Duration::from_secs(4);

pub(super) async fn a_server_notifies_by_way_of_an_endpoint(lab: &mut Lab) {
    lab.phones.connect("pager", "Conversations.aB3d").await;
    lab.phones.connect("friend", "phone").await;

    // The session hibernates, and somebody writes to it. Prosody tells of it again when the session is resumed.
    let registered = notified(lab, "desk").await;
    lab.phones.cut("desk").await;
    let began = Instant::now();
    lab.phones.message("friend", "desk@home.test", "are you there?").await;
    lab.expect(BODY).await;
    lab.phones.resume("desk").await;
    let more = until_fence(lab, &registered).await;
    assert!(began.elapsed() > SAME_EVENT || more.is_empty(), "once, although it is told of twice: {more:?}");

    // Nobody is there at all.
    let registered = notified(lab, "laptop").await;
    lab.phones.leave("laptop").await;
    lab.phones.message("friend", "laptop@home.test", "and you?").await;
    lab.expect(BODY).await;
    lab.acknowledged(&registered).await;
}

/// Connects an account whose server is to notify an endpoint of the pager, which is given.
async fn notified(lab: &mut Lab, account: &str) -> Registered {
    let registered = lab.register("pager", account).await;
    lab.phones.connect(account, "desktop").await;
    let (node, secret) = bind(lab, account, &registered.endpoint).await;
    let enable = format!(
        "<enable xmlns='urn:xmpp:push:0' jid='{}' node='{node}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>\
         <field var='secret'><value>{secret}</value></field></x></enable>",
        XmppDaemon::COMPONENT
    );
    let own = format!("{account}@{}", XmppDaemon::DOMAIN);
    let enabled = lab.phones.ask(account, &own, "set", &enable).await;
    assert!(enabled["error"].is_null(), "its own server takes it: {enabled}");
    registered
}

/// Asks the gateway to notify an endpoint: gives the node and the secret for the user's server.
async fn bind(lab: &mut Lab, account: &str, endpoint: &str) -> (String, String) {
    let command = format!(
        "<command xmlns='http://jabber.org/protocol/commands' node='register-push-unifiedpush'>\
         <x xmlns='jabber:x:data' type='submit'><field var='endpoint'><value>{endpoint}</value></field></x></command>"
    );
    let answer = lab.phones.ask(account, XmppDaemon::COMPONENT, "set", &command).await;
    (field(&answer, "node"), field(&answer, "secret"))
}

/// The value of a form's field.
fn field(answer: &Value, name: &str) -> String {
    let xml = answer["xml"][0].as_str().unwrap_or_else(|| panic!("no form: {answer}"));
    let (_, field) = xml.split_once(&format!("var=\"{name}\"")).unwrap_or_else(|| panic!("no {name}: {xml}"));
    let (_, value) = field.split_once("value>").expect("it has a value");
    value.split('<').next().expect("it ends").to_owned()
}

/// What comes before a push that is posted now.
async fn until_fence(lab: &mut Lab, registered: &Registered) -> Vec<Pushed> {
    lab.post(registered, "fence").await.expect(201);
    let mut came = Vec::new();
    loop {
        match lab.phones.push().await {
            push if push.payload == b"fence" => return came,
            push => came.push(push),
        }
    }
}
