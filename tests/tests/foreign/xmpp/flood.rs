//! Many pushes at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use harness::{DaemonKind, XmppDaemon, eventually_within, patience};

use super::Lab;

const ACCOUNTS: usize = 20;
/// Together 500 endpoints.
const APPS: usize = 25;
/// Application servers that post at the same time.
const SENDERS: usize = 32;

/// `XMPP_FLOOD`: how many pushes, 2,000 if unset. gateway/docs/conversations.md has what 20,000 came to.
fn pushes() -> usize {
    std::env::var("XMPP_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_push_of_a_flood_to_500_endpoints_arrives_once() {
    let Some(mut lab) = Lab::start("a flood of pushes by XMPP", DaemonKind::Prosody).await else { return };
    let names: Vec<_> = (0..ACCOUNTS).map(|number| format!("phone{number}")).collect();
    let tokens: Vec<_> = (0..APPS).map(|number| format!("token{number}")).collect();
    let mut endpoints = Vec::new();
    for name in &names {
        lab.phones.connect(name, "Conversations.aB3d").await;
        let which = tokens.iter().map(|token| (name.as_str(), super::APP, token.as_str()));
        endpoints.extend(lab.phones.register_all(XmppDaemon::COMPONENT, which).await);
    }
    let began = Instant::now();
    let count = pushes();
    let (gateway, endpoints) = (&lab.gateway, &endpoints);
    let post = async |number: usize| {
        let endpoint = &endpoints[number % endpoints.len()].endpoint;
        let request = gateway.post(endpoint).ttl(600).header("Urgency", "high");
        request.body(number.to_string()).send().await.expect(201);
    };
    let posting = stream::iter(0..count).map(post).buffer_unordered(SENDERS).count();
    let reading = async {
        let mut came = BTreeMap::new();
        while came.len() < count {
            let number = lab.phones.push().await.payload;
            *came.entry(number).or_insert(0) += 1;
        }
        came
    };
    let (posted, came) = tokio::join!(posting, reading);
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!((posted, came.len()), (count, count));
    let twice = came.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "none of them is lost on the way, so none has to come twice");
    let limit = patience() + Duration::from_secs(20);
    eventually_within(limit, "all are acknowledged", async || {
        let rows = gateway.cli(["registration", "list", "--json"]).await.json();
        let rows = rows.as_array().expect("rows").iter();
        (rows.map(|row| row["waiting"].as_u64().expect("a number")).sum::<u64>() == 0).then_some(())
    })
    .await;
    #[expect(clippy::print_stdout, reason = "the figure is what a run by hand is for")]
    {
        println!("{count} pushes to {} endpoints in {seconds:.1} s", endpoints.len());
    }
}
