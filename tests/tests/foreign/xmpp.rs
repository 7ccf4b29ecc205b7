//! Real XMPP servers, phones with Conversations on them, and Prosody's own push service as the oracle.

mod flood;
mod notifications;
mod oracle;
mod scenarios;

use harness::{DaemonKind, Gateway, Phones, Pushed, Registered, Response, XmppDaemon, eventually, within};

/// The app that everybody has.
const APP: &str = "com.keylesspalace.tusky";

/// A gateway, the server whose component it is, and the phones of that server's accounts.
struct Lab {
    gateway: Gateway,
    kind: DaemonKind,
    phones: Phones,
    server: XmppDaemon,
}

impl Lab {
    /// Starts all of it, or says aloud what is missing.
    async fn start(test: &str, kind: DaemonKind) -> Option<Self> {
        let server = XmppDaemon::start(test, kind).await?;
        let phones = Phones::start(test, &server)?;
        let gateway = Gateway::new().config(&server.gateway_config(XmppDaemon::SECRET)).start().await;
        let lab = Self { gateway, kind, phones, server };
        lab.connected(1).await;
        Some(lab)
    }

    /// Waits until the gateway has been let in so often.
    async fn connected(&self, times: usize) {
        eventually("the gateway is the component", async || {
            (self.gateway.log().matches("connected as push.home.test").count() >= times).then_some(())
        })
        .await;
    }

    /// Registers [`APP`] for an account; again and again while the gateway is not connected, as Conversations does
    /// more slowly.
    async fn register(&mut self, account: &str, token: &str) -> Registered {
        within("a registration", async {
            loop {
                match self.phones.try_register(account, XmppDaemon::COMPONENT, APP, token).await {
                    Ok(registered) => return registered,
                    Err(error) => assert_ne!(error["condition"], "bad-request", "{error}"),
                }
            }
        })
        .await
    }

    /// A push that may not wait for company.
    async fn post(&self, registered: &Registered, body: impl Into<Vec<u8>>) -> Response {
        let request = self.gateway.post(&registered.endpoint).ttl(600).header("Urgency", "high");
        request.body(body).send().await
    }

    /// The next push to any phone; it must be this one.
    async fn expect(&mut self, body: impl AsRef<[u8]>) -> Pushed {
        let push = self.phones.push().await;
        let text = String::from_utf8_lossy(body.as_ref());
        assert!(push.payload == body.as_ref(), "expected {text:?}, got {push:?}");
        push
    }

    /// How many messages the gateway keeps for an endpoint; `None` if it is no longer one.
    async fn waiting(&self, registered: &Registered) -> Option<u64> {
        let rows = self.gateway.cli(["registration", "list", "--json"]).await.json();
        let row =
            rows.as_array().expect("rows").iter().find(|row| row["endpoint"] == registered.endpoint.as_str());
        row.map(|row| row["waiting"].as_u64().expect("a number"))
    }

    /// Waits until nothing is kept any more: what was sent has been acknowledged.
    async fn acknowledged(&self, registered: &Registered) {
        eventually("all of it is acknowledged", async || {
            (self.waiting(registered).await == Some(0)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_on_prosody() {
    if let Some(lab) = Lab::start("Conversations on Prosody", DaemonKind::Prosody).await {
        scenarios::all(lab).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_on_ejabberd() {
    if let Some(lab) = Lab::start("Conversations on ejabberd", DaemonKind::Ejabberd).await {
        scenarios::all(lab).await;
    }
}
