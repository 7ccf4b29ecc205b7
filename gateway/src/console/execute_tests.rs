//! Requests and their replies, without a socket.

use super::*;
use crate::registry::tests::House;

fn status() -> Status {
    let [mqtt, public] = ["mqtt://127.0.0.1:1883", "http://127.0.0.1:8080"].map(str::to_owned);
    Status { home: None, https: None, mqtt, mqtts: None, public }
}

async fn ask(house: &House, request: Request) -> Reply {
    execute(&house.registry, Some(&status()), request).await
}

async fn pair(house: &House) -> Pairing {
    let Reply::Paired(pairing) =
        ask(house, Request::DeviceAdd { name: "phone".to_owned(), transport: "mqtt".to_owned() }).await
    else {
        panic!("no pairing");
    };
    pairing
}

async fn register(house: &House, device: &str, vapid: Option<String>) -> Reply {
    ask(house, Request::RegistrationAdd { app: "mail".to_owned(), device: device.to_owned(), vapid }).await
}

async fn failure(house: &House, request: Request) -> String {
    let Reply::Failed { message } = ask(house, request).await else {
        panic!("no failure");
    };
    message
}

#[tokio::test]
async fn devices_come_and_go() {
    let house = House::open();
    let pairing = pair(&house).await;
    let listed = ask(&house, Request::DeviceList).await;
    let row = DeviceRow {
        created: 1_795_392_000,
        device: pairing.device.clone(),
        name: "phone".to_owned(),
        profile: None,
        quiet: None,
        registrations: 0,
        transport: "mqtt".to_owned(),
    };
    assert_eq!(listed, Reply::Devices { devices: vec![row] });
    let Reply::Paired(rotated) = ask(&house, Request::DeviceRotate { id: pairing.device.clone() }).await
    else {
        panic!("no new secret");
    };
    assert_eq!(rotated.device, pairing.device);
    assert_ne!(rotated.secret, pairing.secret);
    assert_eq!(ask(&house, Request::DeviceRemove { id: pairing.device.clone() }).await, Reply::Done);
    let message = failure(&house, Request::DeviceRemove { id: pairing.device.clone() }).await;
    assert!(message.contains(&pairing.device), "{message}");
}

#[tokio::test]
async fn registrations_come_and_go() {
    let house = House::open();
    let device = pair(&house).await.device;
    let mut bytes = [2; 65];
    bytes[0] = 4;
    let key = VapidKey::from_bytes(&bytes).expect("65 bytes").to_string();
    let Reply::Registered(row) = register(&house, &device, Some(key.clone())).await else {
        panic!("no registration");
    };
    assert_eq!((row.app.as_str(), row.token.as_str(), &row.vapid), ("mail", "mail", &Some(key.clone())));
    assert_eq!(register(&house, &device, Some(key)).await, Reply::Registered(row.clone()));
    let listed = ask(&house, Request::RegistrationList).await;
    assert_eq!(listed, Reply::Registrations { registrations: vec![row.clone()] });
    let remove = Request::RegistrationRemove { endpoint: row.endpoint };
    assert_eq!(ask(&house, remove.clone()).await, Reply::Done);
    assert!(failure(&house, remove).await.starts_with("no registration has the endpoint https://"));
}

#[tokio::test]
async fn a_failure_names_what_is_wrong_and_what_would_be_right() {
    let house = House::open();
    let device = pair(&house).await.device;
    let message = failure(&house, Request::DeviceRemove { id: "phone".to_owned() }).await;
    assert_eq!(
        message,
        "\"phone\" is not a device id: expected 13 characters of 0-9 and a-z without i, l, o, u"
    );
    let Reply::Failed { message } = register(&house, &device, Some("short".to_owned())).await else {
        panic!("a key that is none");
    };
    assert!(message.contains("\"short\"") && message.contains("87 characters"), "{message}");
    let message =
        failure(&house, Request::DeviceAdd { name: String::new(), transport: "mqtt".to_owned() }).await;
    assert!(message.contains("1 to 64 bytes"), "{message}");
}

#[tokio::test]
async fn only_a_running_gateway_has_a_status() {
    let house = House::open();
    assert_eq!(ask(&house, Request::Status).await, Reply::Status(status()));
    let offline = execute(&house.registry, None, Request::Status).await;
    assert!(matches!(offline, Reply::Failed { message } if message.contains("not running")));
}

#[tokio::test]
async fn the_owner_chooses_how_a_device_is_woken() {
    let house = House::open();
    let Reply::Paired(pairing) =
        ask(&house, Request::DeviceAdd { name: "phone".to_owned(), transport: "mqtt".to_owned() }).await
    else {
        panic!("not paired")
    };
    let set = |profile: Option<&str>, quiet: Option<&str>| Request::DeviceSet {
        id: pairing.device.clone(),
        profile: profile.map(str::to_owned),
        quiet: quiet.map(str::to_owned),
    };
    let chosen = async || {
        let Reply::Devices { devices } = ask(&house, Request::DeviceList).await else { panic!("no list") };
        (devices[0].profile.clone(), devices[0].quiet.clone())
    };
    assert_eq!(ask(&house, set(Some("saver"), Some("22:00-07:00"))).await, Reply::Done);
    assert_eq!(chosen().await, (Some("saver".to_owned()), Some("22:00-07:00".to_owned())));
    // What is not said stays.
    assert_eq!(ask(&house, set(None, Some("none"))).await, Reply::Done);
    assert_eq!(chosen().await, (Some("saver".to_owned()), Some("none".to_owned())));
    assert_eq!(ask(&house, set(Some("default"), Some("default"))).await, Reply::Done);
    assert_eq!(chosen().await, (None, None));
    assert!(failure(&house, set(Some("fast"), None)).await.contains("instant, balanced, saver"));
    assert!(failure(&house, set(None, Some("22-7"))).await.contains("22:00-07:00"));
    let stranger = Request::DeviceSet { id: "0000000000000".to_owned(), profile: None, quiet: None };
    assert!(failure(&house, stranger).await.contains("0000000000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_waits_for_a_busy_store_instead_of_being_refused() {
    let mut house = House::open();
    let device = pair(&house).await.device;
    register(&house, &device, None).await;
    let registration = house.registry.registrations().remove(0).registration;
    let mut arrivals = house.arrivals();
    house.fill(&registration, 1500).await;
    assert_eq!(ask(&house, Request::DeviceRemove { id: device }).await, Reply::Done);
    // Nobody reads that 1,500 messages are withdrawn, so nothing can be changed.
    let planner = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        while arrivals.recv().await.is_some() {}
    });
    pair(&house).await;
    planner.abort();
}
