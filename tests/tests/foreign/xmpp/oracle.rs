//! The same phones ask Prosody's mod_unified_push and the gateway for the same. Where the two differ,
//! [`DIFFERENCES`] says what each of them says, and why; a difference that is not listed fails, and so does a
//! listed one that is none any more, be it that Prosody has mended it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use harness::{DaemonKind, Gateway, Phones, Pushed, Registered, Request, Response, XmppDaemon, eventually};
use serde_json::Value;

/// What was asked, what Prosody says, what the gateway says, and why that is right.
const DIFFERENCES: [(&str, &str, &str, &str); 9] = [
    ("registered again", "a new URL", "the same URL", "a renewal is to be no news to the app and its server"),
    ("the URL after a change of the resource", "another", "the same", "as above: only the phone has changed"),
    (
        "a push to the URL from before the change",
        "201, delivered: false",
        "201, delivered: true",
        "what has been given out goes on to work",
    ),
    (
        "it is delivered afterwards",
        "false",
        "true",
        "a defect of Prosody: it takes an answer of its own server for the phone's",
    ),
    (
        "a push that the phone knows nothing of",
        "500",
        "201",
        "a defect of Prosody, whose module looks for a stanza in its own error; here nobody waits for phones",
    ),
    ("an empty push", "400", "201", "Conversations takes it, and so does `up`, the reference"),
    (
        "a push of 4097 bytes",
        "413",
        "201",
        "4,096 bytes are what has to fit (RFC 8030 §7.2); the same 5,630 as everywhere do",
    ),
    ("TTL and Location of a 201", "[false, false]", "[true, true]", "RFC 8030 §5 asks for both"),
    (
        "a ping",
        "cancel/service-unavailable",
        "answered",
        "XEP-0199 is how an owner tells whether it is there",
    ),
];

const REGISTER: &str = "register xmlns='http://gultsch.de/xmpp/drafts/unified-push'";
/// What Conversations makes of the app for [`IDENTITY`].
const HASH: &str = "p+HvF3DME9ZnPVoyg/akc/LaRXOBSVIh4OSYCrpObxk=";
/// And of its token.
const HASH_OF_TOKEN: &str = "oUYo9utYjF/RJZ1jA2MwY1pL/T1v1wqmPfj6tI7ezWw=";
/// What it might draw for an account.
const IDENTITY: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

/// What was asked, and what came of it.
type Findings = BTreeMap<&'static str, String>;

/// A push service under observation.
struct Service<'a> {
    found: Findings,
    http: SocketAddr,
    jid: &'static str,
    phones: &'a mut Phones,
}

impl<'a> Service<'a> {
    fn new(jid: &'static str, http: SocketAddr, phones: &'a mut Phones) -> Self {
        Self { found: Findings::new(), http, jid, phones }
    }

    fn found(&mut self, what: &'static str, value: impl Into<String>) {
        let before = self.found.insert(what, value.into());
        assert!(before.is_none(), "{what} is asked once");
    }

    async fn register(&mut self, token: &str) -> Registered {
        self.phones.register("alice", self.jid, "com.keylesspalace.tusky", token).await
    }

    async fn request(&self, method: &str, url: &str, body: &[u8]) -> Response {
        let request = Request::to(self.http, method, url).ttl(600).header("Urgency", "high");
        request.body(body).send_elsewhere().await
    }

    async fn post(&self, registered: &Registered, body: &[u8]) -> Response {
        self.request("POST", &registered.endpoint, body).await
    }

    /// Posts and waits for the push at the phone.
    async fn push(&mut self, registered: &Registered, body: &[u8]) -> (Response, Pushed) {
        let response = self.post(registered, body).await;
        (response, self.phones.push().await)
    }

    /// What comes before a push that is posted now: whatever waited has come by then, or never does.
    async fn until_fence(&mut self, registered: &Registered) -> Vec<Pushed> {
        let fence = self.post(registered, b"fence").await;
        assert_eq!(fence.status, 201);
        let mut came = Vec::new();
        loop {
            match self.phones.push().await {
                push if push.payload == b"fence" => return came,
                push => came.push(push),
            }
        }
    }

    /// Everything, in an order in which nothing disturbs what follows.
    async fn observe(mut self) -> Findings {
        self.observe_registrations().await;
        self.observe_refusals().await;
        self.observe_pushes().await;
        self.observe_absence().await;
        self.found
    }

    async fn observe_registrations(&mut self) {
        let jid = self.phones.connect("alice", "Conversations.aB3d").await;
        assert_eq!(jid, "alice@home.test/Conversations.aB3d", "the server lets the phone choose");
        let first = self.register("tok-1").await;
        let expiration: String =
            first.expiration.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        self.found("the form of the expiration", expiration);
        let again = self.register("tok-1").await;
        self.found(
            "registered again",
            if first.endpoint == again.endpoint { "the same URL" } else { "a new URL" },
        );

        let discovery = self.request("GET", &again.endpoint, b"").await;
        let type_ = discovery.header("content-type").unwrap_or("-").to_owned();
        self.found(
            "discovery",
            format!("{} {type_} {}", discovery.status, String::from_utf8_lossy(&discovery.body)),
        );
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let features = self.phones.ask("alice", self.jid, "get", query).await;
        let named = features["xml"][0].as_str().is_some_and(|xml| xml.contains("drafts/unified-push"));
        self.found("the feature is announced", named.to_string());
    }

    async fn observe_refusals(&mut self) {
        let element = |application: &str, instance: &str| format!("<{REGISTER} {application} {instance}/>");
        let (application, instance) = (format!("application='{HASH}'"), format!("instance='{HASH}'"));
        let short = format!("instance='{}'", &"A".repeat(40));
        for (what, element) in [
            ("no application", element("", &instance)),
            ("no instance", element(&application, "")),
            ("an empty instance", element(&application, "instance=''")),
            ("an instance that is no base64", element(&application, "instance='!!!!'")),
            ("an instance of 30 bytes", element(&application, &short)),
        ] {
            let answer = self.phones.ask("alice", self.jid, "set", &element).await;
            self.found(what, error(&answer));
        }
        let whole = element(&application, &instance);
        let answer = self.phones.ask("alice", self.jid, "get", &whole).await;
        self.found("a register by get", error(&answer));
        let node = format!("node@{}", self.jid);
        let answer = self.phones.ask("alice", &node, "set", &whole).await;
        self.found("a register at an account of the service", error(&answer));
        let answer =
            self.phones.ask("alice", self.jid, "set", "<unheard xmlns='urn:example:unheard'/>").await;
        self.found("something unheard of", error(&answer));
        let answer = self.phones.ask("alice", self.jid, "get", "<ping xmlns='urn:xmpp:ping'/>").await;
        self.found("a ping", if answer["error"].is_null() { "answered".into() } else { error(&answer) });

        self.phones.connect_at(XmppDaemon::ELSEWHERE, "mallory", "Conversations.1234").await;
        let answer = self.phones.ask("mallory", self.jid, "set", &whole).await;
        self.found("a register from another domain", error(&answer));
        self.phones.leave("mallory").await;
    }

    async fn observe_pushes(&mut self) {
        let registered = self.register("tok-1").await;
        let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(4096).collect();
        for (what, body) in [("a push of 5 bytes", &b"hello"[..]), ("a push of 4096 bytes", &every_byte)] {
            let (response, push) = self.push(&registered, body).await;
            assert_eq!(push.sender, self.jid);
            let same = push.payload == body;
            self.found(what, format!("{}, {} bytes, the same: {same}", response.status, push.payload.len()));
        }
        let (response, push) = self.push(&registered, b"for whom").await;
        // Known values, for this account, app and token.
        assert_eq!((push.application.as_str(), push.instance.as_str()), (HASH, HASH_OF_TOKEN));
        self.found("for whom a push is", push.to);
        let headers = ["ttl", "location"].map(|name| response.header(name).is_some());
        self.found("TTL and Location of a 201", format!("{headers:?}"));
        for (what, length) in [("a push of 4097 bytes", 4097), ("a push of 5631 bytes", 5631)] {
            let large = vec![b'x'; length];
            let response = self.post(&registered, &large).await;
            self.found(what, response.status.to_string());
            if response.status == 201 {
                assert_eq!(self.phones.push().await.payload, large);
            }
        }
        let end = registered.endpoint.len() - 1;
        let other = if registered.endpoint.ends_with('A') { "Q" } else { "A" };
        let tampered = format!("{}{other}", &registered.endpoint[..end]);
        let tampered = self.request("POST", &tampered, b"x").await;
        self.found("a push to a URL that was tampered with", tampered.status.to_string());
        let empty = self.post(&registered, b"").await;
        self.found("an empty push", empty.status.to_string());
        if empty.status == 201 {
            assert_eq!(self.phones.push().await.payload, b"");
        }

        let mut answers = BTreeMap::new();
        let mut bodies = BTreeSet::new();
        for number in 0..200 {
            let body = number.to_string();
            *answers.entry(self.post(&registered, body.as_bytes()).await.status).or_insert(0) += 1;
            bodies.insert(body.into_bytes());
        }
        for _ in 0..200 {
            let push = self.phones.push().await;
            assert!(bodies.remove(&push.payload), "once: {push:?}");
        }
        self.found("a burst of 200", format!("answers {answers:?}, not delivered: {}", bodies.len()));
    }

    /// What is revoked, and what only waits.
    async fn observe_absence(&mut self) {
        let registered = self.register("tok-3").await;
        self.phones.answer("alice", "item-not-found").await;
        let (response, _) = self.push(&registered, b"x").await;
        self.found("a push that the phone knows nothing of", response.status.to_string());
        self.phones.answer("alice", "result").await;

        let registered = self.register("tok-4").await;
        self.phones.leave("alice").await;
        let response = self.post(&registered, b"while it was away").await;
        self.found("a push to a phone that is away", response.status.to_string());
        let jid = self.phones.connect("alice", "Conversations.eF5g").await;
        self.phones.present("alice", self.jid).await;
        let renewed = self.register("tok-4").await;
        self.found(
            "the URL after a change of the resource",
            if renewed.endpoint == registered.endpoint { "the same" } else { "another" },
        );
        let came = self.until_fence(&renewed).await;
        assert!(came.iter().all(|push| push.to == jid), "{came:?}");
        let waited = came.iter().any(|push| push.payload == b"while it was away");
        self.found("it is delivered afterwards", waited.to_string());
        let response = self.post(&registered, b"to the old URL").await;
        let came = self.until_fence(&renewed).await;
        self.found(
            "a push to the URL from before the change",
            format!("{}, delivered: {}", response.status, !came.is_empty()),
        );
        self.phones.leave("alice").await;
    }
}

/// `type/condition` of an error (RFC 6120 §8.3).
fn error(answer: &Value) -> String {
    let text = |key: &str| answer["error"][key].as_str().unwrap_or("-");
    format!("{}/{}", text("type"), text("condition"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_says_what_prosodys_push_service_says() {
    let test = "Prosody's mod_unified_push as oracle";
    let Some(server) = XmppDaemon::start(test, DaemonKind::Prosody).await else { return };
    let Some(mut phones) = Phones::start(test, &server) else { return };
    phones.identify("alice", IDENTITY).await;
    let gateway = Gateway::new().config(&server.gateway_config(XmppDaemon::SECRET)).start().await;
    eventually("the gateway is the component", async || gateway.log().contains("connected as").then_some(()))
        .await;
    let theirs = Service::new(XmppDaemon::REFERENCE, server.http, &mut phones).observe().await;
    let ours = Service::new(XmppDaemon::COMPONENT, gateway.public, &mut phones).observe().await;
    assert!(theirs.keys().eq(ours.keys()), "both are asked the same");
    let differ = theirs.iter().filter_map(|(what, theirs)| {
        let ours = &ours[what];
        (theirs != ours).then_some((*what, theirs.as_str(), ours.as_str()))
    });
    let found: BTreeSet<_> = differ.collect();
    let listed: BTreeSet<_> =
        DIFFERENCES.iter().map(|(what, theirs, ours, _)| (*what, *theirs, *ours)).collect();
    let (unlisted, gone): (Vec<_>, Vec<_>) =
        (found.difference(&listed).collect(), listed.difference(&found).collect());
    assert!(unlisted.is_empty() && gone.is_empty(), "not listed: {unlisted:#?}\ngone: {gone:#?}");
}
