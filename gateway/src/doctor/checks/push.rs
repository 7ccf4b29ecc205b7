//! The whole way: a push to the public URL, as an application server posts it, and back from the gateway
//! to a device that is here.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header::LOCATION};
use http_body_util::Full;
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};
use tokio::time::timeout;

use crate::doctor::{
    Finding,
    case::{Case, address_of},
    temporary::Temporary,
};

/// How long each step may take. The default profile lets nothing of urgency high wait.
const PATIENCE: Duration = Duration::from_secs(15);
/// As large as a push may be (RFC 8291 §4): a proxy that cuts or refuses this would do so later.
const BODY: usize = 4096;

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let Ok(status) = &case.gateway else {
        return vec![Finding::skipped("no push was tried, because no gateway answers", "see `ports`")];
    };
    let (Some((public, addresses)), Some(mqtt)) = (case.reachable(), address_of(&status.mqtt)) else {
        return vec![Finding::skipped("no push was tried, because there is no address for it", "see `name`")];
    };
    let device = match Temporary::pair(&case.config.state_dir, &*case.clock) {
        Ok(device) => device,
        Err(error) => {
            return vec![Finding::problem(
                format!("no device could be paired: {error}"),
                "see `state`: if the disk is full or failing, nothing new is accepted",
            )];
        }
    };
    let (mut phone, client) = match arrive(mqtt, &device).await {
        Ok(arrived) => arrived,
        Err(error) => {
            return vec![Finding::problem(
                format!("a device that has just been paired cannot connect to {mqtt}: {error}"),
                "restart the gateway; its log says more",
            )];
        }
    };
    let sent = case.clock.moment().instant;
    let body = vec![b'd'; BODY];
    let (posted, came) = tokio::join!(
        async {
            let request = post(&device.endpoint, &public.target.authority, body.clone())?;
            case.dialer.ask(&public.target, addresses, request).await
        },
        timeout(PATIENCE, arrival(&mut phone, &client))
    );
    let took = case.clock.moment().instant.saturating_duration_since(sent);
    let mut findings = Vec::new();
    let accepted = match posted {
        Ok(answer) if answer.status() == 201 && answer.headers().contains_key(LOCATION) => true,
        Ok(answer) => {
            findings.push(Finding::problem(
                format!(
                    "a push to {} was answered {} {}",
                    public.url,
                    answer.status(),
                    String::from_utf8_lossy(answer.body()).trim()
                ),
                "if these are not the gateway's words, the proxy refuses POST, the path /p/, or a body of 4 KB; else they say what is wrong",
            ));
            false
        }
        Err(error) => {
            findings.push(Finding::problem(
                format!("a push to {} had no answer: {error}", public.url),
                "see `public` and `tls`",
            ));
            false
        }
    };
    match came {
        Ok(Ok(payload)) if payload == body => findings.push(Finding::good(format!(
            "a push through {} came back to a device in {:.0} ms",
            public.url,
            took.as_secs_f64() * 1e3
        ))),
        Ok(Ok(_)) => findings.push(Finding::problem(
            "the push arrived, but its body had been changed",
            "the proxy must pass bodies on as they are",
        )),
        Ok(Err(error)) => findings.push(Finding::problem(
            format!("the device lost its connection: {error}"),
            "the gateway's log says more",
        )),
        Err(_) if accepted => findings.push(Finding::problem(
            "the push was answered 201 and did not arrive: another gateway has this name, or delivery hangs",
            "compare `registration list` with what answers under that name, and read the log",
        )),
        Err(_) => {}
    }
    findings
}

fn post(endpoint: &str, authority: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
    let path = endpoint.parse::<Uri>().map_err(|error| error.to_string())?.path().to_owned();
    Request::post(path)
        .header("host", authority)
        .header("content-encoding", "aes128gcm")
        .header("ttl", "60")
        .header("urgency", "high")
        .body(Full::new(body.into()))
        .map_err(|error| error.to_string())
}

/// Connects the device and subscribes, by MQTT as any distributor does.
async fn arrive(mqtt: std::net::SocketAddr, device: &Temporary) -> Result<(EventLoop, AsyncClient), String> {
    let id = device.pairing.device.as_str();
    let mut options = MqttOptions::new(id, mqtt.ip().to_string(), mqtt.port());
    options.set_credentials(id, &device.pairing.secret).set_clean_start(true).set_connection_timeout(10);
    options.set_keep_alive(Duration::from_secs(60));
    let (client, mut events) = AsyncClient::new(options, 8);
    client.try_subscribe(format!("up/{id}/inbox/#"), QoS::AtLeastOnce).map_err(|error| error.to_string())?;
    let subscribed = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    timeout(PATIENCE, subscribed).await.map_err(|_| "no answer in time".to_owned())??;
    Ok((events, client))
}

/// The body of the first push. It is acknowledged by the client itself.
async fn arrival(events: &mut EventLoop, _alive: &AsyncClient) -> Result<Vec<u8>, String> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if String::from_utf8_lossy(&publish.topic).contains("/inbox/push/") {
                    return Ok(publish.payload.to_vec());
                }
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
