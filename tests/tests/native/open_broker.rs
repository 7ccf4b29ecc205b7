//! `run --open-broker`: a broker for public suites, on the loopback, beside the phones and apart from them.

use std::net::SocketAddr;

use harness::{Gateway, Version, eventually, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{bodies_until, phone, push};

/// Where it says that it listens, once it has said so and warned of it.
async fn address(gateway: &Gateway) -> SocketAddr {
    eventually("the open broker is announced", async || {
        let log = gateway.log();
        let (_, rest) = log.split_once(" open-broker=mqtt://")?;
        let loud = log.contains("WARN") && log.contains("OPEN BROKER");
        rest.split_whitespace().next().filter(|_| loud)?.parse().ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_broker_is_loud_and_reaches_no_phone() {
    let gateway = Gateway::new().args(["--open-broker", "127.0.0.1:0"]).start().await;
    let address = address(&gateway).await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let mut stranger = TcpStream::connect(address).await.expect("it accepts");
    // CONNECT of 3.1.1 without a login; SUBSCRIBE to `#`; a forged push.
    let topic = format!("up/{}/inbox/push/{}", device.id, app.channel);
    let length = u8::try_from(topic.len()).expect("short");
    let forged = [&[0x30, length + 8, 0, length][..], topic.as_bytes(), b"forged"].concat();
    let bytes = [&b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01x\x82\x06\0\x01\0\x01#\0"[..], &forged].concat();
    stranger.write_all(&bytes).await.expect("it reads");
    let mut answer = vec![0; 4 + 5 + forged.len()];
    within("its own message", stranger.read_exact(&mut answer)).await.expect("it answers");
    assert_eq!(answer[..9], *b"\x20\x02\0\0\x90\x03\0\x01\0");
    assert_eq!(answer[9..], forged, "any topic goes, without a login");
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0], "and none of it reaches the phone");
    stranger.write_all(&[0xc0, 0]).await.expect("it reads");
    let mut answer = [0; 2];
    within("PINGRESP", stranger.read_exact(&mut answer)).await.expect("it answers");
    assert_eq!(answer, [0xd0, 0], "nor does the phone's push reach the stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_broker_is_refused_off_the_loopback() {
    for address in ["0.0.0.0:1884", "192.0.2.1:1884", "[::]:1884"] {
        let output = Gateway::new().args(["--open-broker", address]).run_to_exit().await;
        assert_eq!(output.code, Some(78), "{output:?}");
        assert!(format!("{output:?}").contains("not on the loopback"), "{output:?}");
    }
}
