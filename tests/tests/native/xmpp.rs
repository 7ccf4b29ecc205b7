//! Phones with Conversations, behind an XMPP server that says what it is told to.

use harness::{Component, Gateway, Request, XmppServer, eventually};

const PHONE: &str = "alice@home.test/Conversations.aB3d";
const GONE: &str =
    "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

async fn start() -> (XmppServer, Gateway, Component) {
    let server = XmppServer::start().await;
    let gateway = Gateway::new().config(&format!("log = 'trace'\n{}", server.config())).start().await;
    let component = server.accept().await;
    (server, gateway, component)
}

fn push(gateway: &Gateway, endpoint: &str, body: &str) -> Request {
    gateway.post(endpoint).ttl(3600).header("Urgency", "high").body(body)
}

/// Messages that wait on disk.
async fn waiting(gateway: &Gateway) -> u64 {
    let list = gateway.cli(["registration", "list", "--json"]).await.json();
    let rows = list.as_array().expect("a list").iter();
    rows.map(|row| row["waiting"].as_u64().expect("a number")).sum()
}

async fn accounts(gateway: &Gateway) -> Vec<(String, String)> {
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let of = list.as_array().expect("a list").iter().filter(|device| device["transport"] == "xmpp");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    of.map(|device| (text(&device["device"]), text(&device["name"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_registers_and_its_pushes_arrive_and_leave() {
    let (server, gateway, mut component) = start().await;
    assert!(accounts(&gateway).await.is_empty());
    let endpoint = component.register(PHONE, "app").await;
    assert!(endpoint.starts_with(&format!("http://{}/p/", gateway.public)), "{endpoint}");
    assert_eq!(accounts(&gateway).await.len(), 1);
    assert_eq!(accounts(&gateway).await[0].1, "alice@home.test");
    assert_eq!(component.register(PHONE, "app").await, endpoint, "a renewal changes nothing");
    push(&gateway, &endpoint, "hello").send().await.expect(201);
    let (request, client, body) = component.expect_push().await;
    assert_eq!((client.as_str(), &body[..]), (PHONE, &b"hello"[..]));
    assert_eq!(waiting(&gateway).await, 1, "it waits until it is answered");
    component.answer(&request, "result", "").await;
    eventually("it leaves", async || (waiting(&gateway).await == 0).then_some(())).await;
    assert!(!gateway.log().contains(server.secret()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_comes_again_by_the_next_stream_and_the_next_process() {
    let (server, mut gateway, mut component) = start().await;
    let endpoint = component.register(PHONE, "app").await;
    push(&gateway, &endpoint, "one").send().await.expect(201);
    push(&gateway, &endpoint, "two").send().await.expect(201);
    let (one, _, _) = component.expect_push().await;
    component.expect_push().await;
    component.answer(&one, "result", "").await;
    component.fence().await;
    eventually("the first leaves", async || (waiting(&gateway).await == 1).then_some(())).await;
    // The server is started anew.
    drop(component);
    push(&gateway, &endpoint, "three").send().await.expect(201);
    let mut component = server.accept().await;
    assert_eq!(component.expect_push().await.2, b"two");
    assert_eq!(component.expect_push().await.2, b"three");
    // And so is the gateway.
    gateway.kill9().await;
    component.expect_end().await;
    gateway.start_again().await;
    let mut component = server.accept().await;
    assert_eq!(component.expect_push().await.2, b"two");
    let (three, client, body) = component.expect_push().await;
    assert_eq!((client.as_str(), &body[..]), (PHONE, &b"three"[..]));
    component.answer(&three, "result", "").await;
    component.fence().await;
    let other = "alice@home.test/Conversations.zzzz";
    assert_eq!(component.register(other, "app").await, endpoint, "the endpoint outlives both");
    push(&gateway, &endpoint, "four").send().await.expect(201);
    loop {
        let (_, client, body) = component.expect_push().await;
        assert_eq!(client, other, "and follows the phone");
        if body == b"four" {
            break;
        }
        assert_eq!(body, b"two");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_gone_has_no_endpoint_until_it_registers_again() {
    let (_server, gateway, mut component) = start().await;
    let endpoint = component.register(PHONE, "app").await;
    let staying = component.register(PHONE, "other").await;
    push(&gateway, &endpoint, "late").send().await.expect(201);
    let (request, _, _) = component.expect_push().await;
    component.answer(&request, "error", GONE).await;
    eventually("it ends", async || {
        let status = gateway.request("GET", &endpoint).send().await.status;
        (status == 410).then_some(())
    })
    .await;
    push(&gateway, &endpoint, "too late").send().await.expect(410);
    assert_eq!(waiting(&gateway).await, 0);
    push(&gateway, &staying, "hello").send().await.expect(201);
    assert_eq!(component.expect_push().await.2, b"hello");
    let new = component.register(PHONE, "app").await;
    assert_ne!(new, endpoint, "by another one the app learns that it has to tell its server");
    push(&gateway, &new, "again").send().await.expect(201);
    assert_eq!(component.expect_push().await.2, b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_phone_gets_everything_when_it_connects() {
    let (_server, gateway, mut component) = start().await;
    let endpoint = component.register(PHONE, "app").await;
    component.say(&format!("<presence type='unavailable' from='{PHONE}' to='push.home.test'/>")).await;
    component.fence().await;
    push(&gateway, &endpoint, "old").header("Topic", "news").send().await.expect(201);
    push(&gateway, &endpoint, "new").header("Topic", "news").send().await.expect(201);
    gateway.post(&endpoint).ttl(0).body("now or never").send().await.expect(201);
    component.fence().await;
    assert_eq!(waiting(&gateway).await, 1);
    component.say(&format!("<presence from='{PHONE}' to='push.home.test'/>")).await;
    let (request, _, body) = component.expect_push().await;
    assert_eq!(body, b"new");
    component.answer(&request, "result", "").await;
    eventually("it leaves", async || (waiting(&gateway).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_removed_like_any_device() {
    let (_server, gateway, mut component) = start().await;
    let endpoint = component.register(PHONE, "app").await;
    let [(device, _)] = &accounts(&gateway).await[..] else { panic!("one account") };
    assert_eq!(gateway.cli(["device", "remove", device]).await.code, Some(0));
    push(&gateway, &endpoint, "late").send().await.expect(410);
    let new = component.register(PHONE, "app").await;
    assert_ne!(new, endpoint);
    push(&gateway, &new, "hello").send().await.expect(201);
    assert_eq!(component.expect_push().await.2, b"hello");
    assert_eq!(accounts(&gateway).await[0].0, *device, "the same account is the same device");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_is_a_mistake_in_the_settings() {
    let server = XmppServer::start().await;
    let config = server.config();
    drop(server);
    let gateway = Gateway::new().start().await;
    let file = gateway.scratch().join("xmpp.toml");
    std::fs::write(&file, &config).unwrap();
    let file = file.display().to_string();
    for command in ["run", "check"] {
        let output = gateway.cli_exactly([command, "--config", &file].map(String::from)).await;
        assert_eq!(output.code, Some(78), "{command}");
        let said = output.stderr;
        assert!(said.contains("transport.xmpp.secret_file: ") && said.contains("push.home.test"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_notifies_wakes_the_app_that_its_user_has_bound() {
    let (_server, gateway, mut component) = start().await;
    let endpoint = component.register(PHONE, "app").await;
    let form = component
        .ask(&format!(
            "<iq type='set' id='c' from='bob@home.test/desk' to='push.home.test'><command xmlns='http://jabber.org/protocol/commands' node='register-push-unifiedpush'><x xmlns='jabber:x:data' type='submit'><field var='endpoint'><value>{endpoint}</value></field></x></command></iq>"
        ))
        .await;
    let field = |name: &str| {
        let (_, rest) = form.split_once(&format!("<field var='{name}'><value>")).expect("a field");
        rest.split_once('<').expect("an end").0.to_owned()
    };
    let notify = format!(
        "<iq type='set' id='n' from='home.test' to='push.home.test'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{}'><item><notification xmlns='urn:xmpp:push:0'><x xmlns='jabber:x:data' type='submit'><field var='last-message-body'><value>New Message!</value></field></x></notification></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='secret'><value>{}</value></field></x></publish-options></pubsub></iq>",
        field("node"),
        field("secret")
    );
    component.say(&notify).await;
    // The push may leave before it is on disk, and so before the server is told.
    let mut heard = [component.hear().await.expect("a stanza"), component.hear().await.expect("a stanza")];
    heard.sort_by_key(|stanza| stanza.contains("<push "));
    let [answer, push] = heard;
    assert_eq!(answer, "<iq type='result' id='n' from='push.home.test' to='home.test'/>");
    assert!(push.contains(">eyJ4bXBwIjoicHVzaCJ9</push>"), "{push}");
    component.answer(&push, "result", "").await;
    eventually("it leaves", async || (waiting(&gateway).await == 0).then_some(())).await;
    // The same once more within seconds is the same event: nothing comes but the answer.
    let answer = component.ask(&notify).await;
    assert!(answer.starts_with("<iq type='result' id='n' "), "{answer}");
    component.fence().await;
    assert_eq!(gateway.cli(["registration", "remove", &endpoint]).await.code, Some(0));
    let answer = component.ask(&notify.replace("New", "Another")).await;
    assert!(answer.contains("<item-not-found "), "{answer}");
}
