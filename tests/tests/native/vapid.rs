//! Registrations that only one application server may push to (RFC 8292 §4).

use harness::{Gateway, Request, Sender, Version, now_s};

use crate::{absent, phone};

const HOUR: u64 = 3600;

/// The origin of an endpoint.
fn audience(endpoint: &str) -> &str {
    endpoint.split_once("/p/").expect("endpoints have /p/").0
}

/// The token with another first character in its signature; the last one would not do, because it
/// carries two bits only.
fn damaged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_application_server_may_push() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let (sender, stranger) = (Sender::new(), Sender::new());
    let app = phone.register_bound("app", &sender.public()).await;
    let origin = audience(&app.endpoint);
    let post = |authorization: &str| -> Request {
        gateway.post(&app.endpoint).ttl(60).header("Authorization", authorization).body("signed")
    };

    gateway.post(&app.endpoint).ttl(60).body("unsigned").send().await.expect(401);
    let soon = now_s() + HOUR;
    let good = sender.token(origin, soon);
    let refused = [
        ("another key", stranger.authorization(origin, soon)),
        ("another origin", sender.authorization("https://example.org", soon)),
        ("expired", sender.authorization(origin, now_s() - HOUR)),
        ("valid for too long", sender.authorization(origin, now_s() + 48 * HOUR)),
        ("signed by another key", format!("vapid t={}, k={}", stranger.token(origin, soon), sender.public())),
        ("damaged", format!("vapid t={}, k={}", damaged(&good), sender.public())),
        ("without key", format!("vapid t={good}")),
        ("without token", format!("vapid k={}", sender.public())),
    ];
    for (what, authorization) in refused {
        let response = post(&authorization).send().await;
        assert_eq!(response.status, 403, "{what}: {response:?}");
    }
    post(&sender.authorization(origin, soon)).send().await.expect(201);
    assert_eq!(phone.expect_push().await.payload, "signed", "and nothing of the others came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spellings_that_senders_use_are_understood() {
    let gateway = Gateway::new().start().await;
    let (device, _) = absent(&gateway).await;
    let sender = Sender::new();
    let key = sender.public();
    let endpoint = gateway.cli(["registration", "add", &device.id, "bound", "--vapid", &key]).await;
    let endpoint = endpoint.text();
    let token = sender.token(audience(endpoint), now_s() + HOUR);
    let padded = format!("{key}=");
    for authorization in [
        format!("vapid t={token}, k={key}"),
        format!("vapid t={token},k={key}"),
        format!("vapid k={key}, t={token}"),
        format!("Vapid t={token}, k={padded}"),
        format!("vapid t={token}, k={key}, realm=\"x\""),
    ] {
        let request = gateway.post(endpoint).ttl(60).header("Authorization", &authorization);
        let response = request.body("x").send().await;
        assert_eq!(response.status, 201, "{authorization}: {response:?}");
    }
    // The draft's scheme, which Mastodon uses: the key travels in Crypto-Key.
    let legacy = |crypto_key: String| {
        let request = gateway.post(endpoint).ttl(60).header("Content-Encoding", "aesgcm");
        let request = request.header("Encryption", "salt=lngarbyKfMoi9Z75xYXmkg");
        request
            .header("Authorization", &format!("WebPush {token}"))
            .header("Crypto-Key", &crypto_key)
            .body("x")
    };
    let dh = "BNoRDbb84JGm8g5Z5CFxurSqsXWJ11ItfXEWYVLE85Y7CYkDjXsIEc4aqxYaQ1G8BqkXCJ6DPpDrWtdWj_mugHU";
    legacy(format!("dh={dh};p256ecdsa={key}")).send().await.expect(201);
    legacy(format!("dh={dh},p256ecdsa={key}")).send().await.expect(201);
    legacy(format!("dh={dh};p256ecdsa={}", Sender::new().public())).send().await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binding_outlives_a_restart() {
    let mut gateway = Gateway::new().start().await;
    let (device, _) = absent(&gateway).await;
    let sender = Sender::new();
    let endpoint =
        gateway.cli(["registration", "add", &device.id, "bound", "--vapid", &sender.public()]).await;
    gateway.restart().await;
    let endpoint = endpoint.text();
    gateway.post(endpoint).ttl(60).body("unsigned").send().await.expect(401);
    let authorization = sender.authorization(audience(endpoint), now_s() + HOUR);
    gateway.post(endpoint).ttl(60).header("Authorization", &authorization).body("x").send().await.expect(201);
}
