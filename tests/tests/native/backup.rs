//! A dead card costs no phone its registration.

use std::{fs, os::unix::fs::PermissionsExt as _};

use harness::{Gateway, Phone, Version, eventually};

use crate::{absent, bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_gateway_brings_everything_back_elsewhere() {
    let mut gateway = Gateway::new().start().await;
    let (device, mut there) = phone(&gateway, Version::V5).await;
    let app = there.register("app").await;
    there.disconnect().await;
    let waiting = push(&gateway, &app.endpoint, "waiting").await;
    fs::create_dir(gateway.state_dir().join("ca")).unwrap();
    fs::write(gateway.state_dir().join("ca/key.pem"), "a key").unwrap();
    let file = gateway.scratch().join("backup");
    let path = file.to_str().unwrap();

    let made = gateway.cli(["backup", path]).await;
    assert!(
        made.text().contains("1 devices, 1 registrations, 1 waiting messages, 1 other files"),
        "{made:?}"
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = gateway.cli(["backup", path]).await;
    assert!(again.code == Some(1) && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(gateway.cli(["backup", path, "--force"]).await.code, Some(0));
    let running = gateway.cli(["restore", path]).await;
    assert!(running.code == Some(1) && running.stderr.contains("in use"), "{running:?}");

    gateway.terminate().await;
    let stopped = gateway.cli(["backup", path, "--force"]).await;
    assert!(stopped.text().contains("1 waiting messages"), "{stopped:?}");
    let full = gateway.cli(["restore", path]).await;
    assert!(full.code == Some(1) && full.stderr.contains("not empty"), "{full:?}");

    // The card dies.
    fs::remove_dir_all(gateway.state_dir()).unwrap();
    assert_eq!(gateway.cli(["restore", path]).await.code, Some(0));
    assert_eq!(fs::read(gateway.state_dir().join("ca/key.pem")).unwrap(), b"a key");
    gateway.start_again().await;
    push(&gateway, &app.endpoint, "after").await;
    let mut back = Phone::connect(&gateway, &device, Version::V5).await;
    assert!(back.session_present, "the session is part of the backup");
    assert_eq!(bodies_until(&mut back, "after").await, ["waiting"]);
    eventually("what was delivered cannot be taken back", async || {
        (gateway.request("DELETE", &waiting).send().await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_changes_nothing() {
    let mut gateway = Gateway::new().start().await;
    let (_, endpoint) = absent(&gateway).await;
    let file = gateway.scratch().join("backup");
    let path = file.to_str().unwrap();
    assert_eq!(gateway.cli(["backup", path]).await.code, Some(0));
    gateway.terminate().await;
    fs::remove_dir_all(gateway.state_dir()).unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = gateway.cli(["restore", path]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("cut short"), "{refused:?}");
    assert!(!gateway.state_dir().exists());
    let nowhere = gateway.cli(["restore", "/nowhere/at/all"]).await;
    assert!(nowhere.stderr.contains("there is no backup"), "{nowhere:?}");
    let nothing = gateway.cli(["backup", gateway.scratch().join("other").to_str().unwrap()]).await;
    assert!(nothing.code == Some(1) && nothing.stderr.contains("no state"), "{nothing:?}");
    assert!(!gateway.scratch().join("other").exists());
    fs::write(&file, &whole).unwrap();
    assert_eq!(gateway.cli(["restore", path]).await.code, Some(0));
    gateway.start_again().await;
    push(&gateway, &endpoint, "x").await;
}
