//! Who may hear and say what.

use std::time::{Duration, Instant};

use harness::{Device, Gateway, Phone, Version, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{absent, bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_hears_its_own_inbox_only() {
    let gateway = Gateway::new().start().await;
    let (other, mut other_phone) = phone(&gateway, Version::V5).await;
    for version in Version::ALL {
        let (device, mut nosy) = phone(&gateway, version).await;
        let inbox = format!("up/{}/inbox/#", other.id);
        let own = &device.id;
        for filter in [
            "#",
            "+/+/inbox/#",
            "up/#",
            "up/+/inbox/#",
            "$SYS/#",
            inbox.as_str(),
            &format!("$share/group/up/{own}/inbox/#"),
            &format!("up/{own}/outbox/#"),
            &format!("up/{own}/#"),
        ] {
            let answer = nosy.subscribe_to(filter).await;
            match version {
                Version::V4 => assert_eq!(answer, Err("Failure".into()), "{filter}"),
                Version::V5 => {
                    let allowed = ["NotAuthorized", "SharedSubscriptionsNotSupported"];
                    assert!(
                        answer.as_ref().is_err_and(|code| allowed.contains(&code.as_str())),
                        "{filter}: {answer:?}"
                    );
                }
            }
        }
        assert_eq!(nosy.subscribe_to(&format!("up/{own}/inbox/push/+")).await, Ok(1));

        let (mine, theirs) = (nosy.register("app").await, other_phone.register("app").await);
        push(&gateway, &theirs.endpoint, "secret").await;
        push(&gateway, &mine.endpoint, "fence").await;
        assert_eq!(bodies_until(&mut nosy, "fence").await, [""; 0]);
        push(&gateway, &theirs.endpoint, "end").await;
        assert_eq!(bodies_until(&mut other_phone, "end").await, ["secret"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_to_its_own_outbox_only() {
    let gateway = Gateway::new().start().await;
    let (victim, mut victim_phone) = phone(&gateway, Version::V5).await;
    let app = victim_phone.register("app").await;
    let forged = format!("up/{}/inbox/push/{}", victim.id, app.channel);
    for version in Version::ALL {
        for topic in [forged.as_str(), &format!("up/{}/outbox/register", victim.id), "anything"] {
            let (_, mut forger) = phone(&gateway, version).await;
            let answer = forger.publish_to(topic, b"{\"token\":\"forged\"}").await;
            assert_ne!(answer, "Success", "{topic} by {version:?}");
            match version {
                Version::V5 => assert_eq!(answer, "NotAuthorized", "{topic}"),
                // 3.1.1 has no way to say no but to close.
                Version::V4 => drop(forger.lost().await),
            }
        }
    }
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut victim_phone, "fence").await, [""; 0], "nothing forged has arrived");
    let list = gateway.cli(["registration", "list", "--json"]).await;
    assert!(!list.text().contains("forged"), "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_so_and_locks_nobody_out() {
    let gateway = Gateway::new().start().await;
    let device = gateway.pair("phone").await;
    let wrong = Device { secret: "wrong".into(), ..device.clone() };
    let nobody = Device { id: "0000000000000".into(), ..device.clone() };
    for version in Version::ALL {
        for stranger in [&wrong, &nobody] {
            let answer = Phone::try_connect(&gateway, stranger, version).await;
            assert_eq!(answer.err(), Some("NotAuthorized".into()), "{version:?}");
        }
        Phone::connect(&gateway, &device, version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_gone_within_a_second() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (device, mut phone) = phone(&gateway, version).await;
        let app = phone.register("app").await;
        assert_eq!(gateway.cli(["device", "remove", &device.id]).await.code, Some(0));
        let removed = Instant::now();
        phone.lost().await;
        assert!(removed.elapsed() < Duration::from_secs(1), "{:?}", removed.elapsed());
        assert!(Phone::try_connect(&gateway, &device, version).await.is_err());
        gateway.post(&app.endpoint).ttl(60).body("x").send().await.expect(410);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_ends_the_old_one_and_nothing_else() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (old, mut phone) = phone(&gateway, version).await;
        let app = phone.register("app").await;
        let new = gateway.rotate(&old).await;
        let rotated = Instant::now();
        phone.lost().await;
        assert!(rotated.elapsed() < Duration::from_secs(1), "{:?}", rotated.elapsed());
        assert_eq!((&new.id, new.secret == old.secret), (&old.id, false));
        push(&gateway, &app.endpoint, "meanwhile").await;
        assert!(Phone::try_connect(&gateway, &old, version).await.is_err(), "the old secret has ended");
        let mut phone = Phone::connect(&gateway, &new, version).await;
        assert!(phone.session_present, "the session is the device's, not the secret's");
        assert_eq!(phone.expect_push().await.payload, "meanwhile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_device_takes_over() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (device, mut first) = phone(&gateway, version).await;
        let app = first.register("app").await;
        let mut second = Phone::connect(&gateway, &device, version).await;
        assert!(second.session_present);
        first.lost().await;
        push(&gateway, &app.endpoint, "to the second").await;
        assert_eq!(second.expect_push().await.payload, "to the second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_5_is_told_why_it_is_put_out() {
    let gateway = Gateway::new().start().await;
    let device = gateway.pair("phone").await;
    // By hand: rumqttc cannot read a DISCONNECT that leaves out its empty properties.
    let text = |text: &str| [&[0, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let body = [
        &text("MQTT")[..],
        // MQTT 5.0; user name and password; keep alive 60 s; no properties.
        &[5, 0xc0, 0, 60, 0],
        &text("by-hand"),
        &text(&device.id),
        &text(&device.secret),
    ]
    .concat();
    let connect = [&[0x10, u8::try_from(body.len()).expect("short")], &body[..]].concat();
    let mut stream = TcpStream::connect(gateway.mqtt).await.expect("the gateway accepts");
    stream.write_all(&connect).await.expect("the gateway reads");
    let mut connack = [0; 2];
    within("CONNACK", stream.read_exact(&mut connack)).await.expect("the gateway answers");
    assert_eq!(connack[0], 0x20);
    Phone::connect(&gateway, &device, Version::V5).await;
    let mut rest = Vec::new();
    within("the end", stream.read_to_end(&mut rest)).await.expect("the connection is closed in order");
    let farewell = &rest[usize::from(connack[1])..];
    assert!(matches!(farewell, [0xe0, 1, 0x8e] | [0xe0, 2, 0x8e, 0]), "Session taken over: {farewell:x?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_tell_nothing_of_each_other() {
    let gateway = Gateway::new().start().await;
    let (device, first) = absent(&gateway).await;
    let second = gateway.cli(["registration", "add", &device.id, "second"]).await;
    let tokens =
        [first.as_str(), second.text()].map(|url| url.rsplit_once('/').expect("a path").1.to_owned());
    let alike = tokens[0].bytes().zip(tokens[1].bytes()).filter(|(one, other)| one == other).count();
    // 27 random characters of 64 agree in 12 places less than once in 10^13 times.
    assert!(alike < 12, "{tokens:?}");
}
