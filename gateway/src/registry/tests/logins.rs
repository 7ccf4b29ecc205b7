//! Who is let in.

use super::*;

#[tokio::test]
async fn a_paired_device_is_welcome_and_nobody_else() {
    let house = House::open();
    let (device, secret) = house.pair().await;
    let (other, other_secret) = house.pair().await;
    assert_eq!(house.login(device, &secret, HOME), Login::Welcome(device));
    assert_eq!(house.login(other, &other_secret, HOME), Login::Welcome(other));
    assert_eq!(house.login(device, &other_secret, HOME), Login::Refused);
    assert_eq!(house.login(device, "", HOME), Login::Refused);
    assert_eq!(house.login(DeviceId(device.0 ^ 1), &secret, HOME), Login::Refused);
    assert_eq!(house.registry.login("not an id", secret.as_bytes(), HOME), Login::Refused);
    let upper = device.to_string().to_uppercase();
    assert_eq!(house.registry.login(&upper, secret.as_bytes(), HOME), Login::Refused);
}

#[tokio::test]
async fn the_pairing_uri_holds_the_credentials() {
    let house = House::open();
    let pairing = house.registry.add_device("phone", "mqtt").await.expect("a pairing");
    let expected =
        format!("unifiedpush-mqtt+plain://{}:{}@127.0.0.1:1883", pairing.device, pairing.secret.as_str());
    assert_eq!(pairing.uri, expected);
}

#[tokio::test]
async fn names_are_checked() {
    let house = House::open();
    for wrong in ["", "two\nlines", "\u{1b}[2J", "\u{85}", &"a".repeat(65), &"é".repeat(33)] {
        let refused = house.registry.add_device(wrong, "mqtt").await;
        assert!(matches!(refused, Err(Refusal::Name(_))), "{wrong:?}");
    }
    for right in ["a", "Pixel 9 (Ödön)", &"a".repeat(64), &"é".repeat(32)] {
        assert!(house.registry.add_device(right, "mqtt").await.is_ok(), "{right:?}");
    }
    assert_eq!(house.registry.devices().len(), 4);
}

#[tokio::test]
async fn a_rotated_secret_ends_the_old_one() {
    let house = House::open();
    let (device, old) = house.pair().await;
    let endpoint = house.register(device, "mail").await;
    let new = house.registry.rotate(device).await.expect("a new secret");
    assert_eq!(new.device, device);
    assert_eq!(house.heard(), [Notice::Expelled(device)]);
    assert_eq!(house.login(device, &old, HOME), Login::Refused);
    assert_eq!(house.login(device, new.secret.as_str(), HOME), Login::Welcome(device));
    assert_eq!(house.register(device, "mail").await, endpoint, "its registrations stay");
    let nobody = DeviceId(device.0 ^ 1);
    assert_eq!(house.registry.rotate(nobody).await.err(), Some(Refusal::NoSuchDevice(nobody)));
}

#[tokio::test]
async fn a_removed_device_leaves_nothing_but_tombstones() {
    let house = House::open();
    let (device, secret) = house.pair().await;
    let gone = house.register(device, "mail").await;
    house.registry.put_habit(device, settled());
    assert_eq!(house.registry.habit(device), settled());
    house.registry.remove_device(device).await.expect("removed");
    house.registry.put_habit(device, settled());
    assert_eq!(house.registry.habit(device), Habit::default(), "neither then nor later");
    assert_eq!(house.heard(), [Notice::Expelled(device)]);
    assert_eq!(house.login(device, &secret, HOME), Login::Refused);
    assert!(house.registry.devices().is_empty() && house.registry.registrations().is_empty());
    let lookup = house.rest.1.lookup(&gone.registration.endpoint);
    assert!(matches!(lookup, Lookup::Gone), "{lookup:?}");
    let directory: &dyn Directory = &*house.registry;
    assert_eq!(directory.register(device, app("mail")).await, Err(RegisterRefusal::Unauthorized));
    let late = directory.save_session(device, Some(Session::default())).await;
    assert_eq!(late, Err(RegisterRefusal::Unauthorized));
    assert_eq!(house.registry.remove_device(device).await, Err(Refusal::NoSuchDevice(device)));
}

#[tokio::test]
async fn strangers_who_guess_lock_nobody_out_but_themselves() {
    let house = House::open();
    let (device, secret) = house.pair().await;
    let mut answers = Vec::new();
    for _ in 0..200 {
        answers.push(house.login(device, "guess", STRANGER));
    }
    assert_eq!(answers.first(), Some(&Login::Refused));
    assert_eq!(answers.last(), Some(&Login::Throttled));
    assert_eq!(
        house.login(device, &secret, STRANGER),
        Login::Throttled,
        "not even the right one, from there"
    );
    assert_eq!(house.login(device, &secret, HOME), Login::Welcome(device));
    assert_eq!(house.login(device, "guess", HOME), Login::Throttled, "the device has had enough guesses");
    assert_eq!(house.login(device, &secret, HOME), Login::Welcome(device));
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.login(device, &secret, STRANGER), Login::Welcome(device));
}

#[tokio::test]
async fn unknown_devices_are_throttled_like_known_ones() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let answers = |id: DeviceId, net: u8| -> Vec<Login> {
        (0..30).map(|n| house.login(id, "guess", IpAddr::from([10, net, 0, n]))).collect()
    };
    assert_eq!(answers(device, 1), answers(DeviceId(device.0 ^ 1), 2));
}

#[tokio::test]
async fn right_logins_cost_nothing() {
    let house = House::open();
    let (device, secret) = house.pair().await;
    for _ in 0..1000 {
        assert_eq!(house.login(device, &secret, HOME), Login::Welcome(device));
    }
}
