//! Who `listen` is: a device, its secret and Web Push keys, kept in the state directory so that
//! endpoint and keys are the same next time.
//!
//! `listen.json` holds the device that was paired for `listen`; `listen-DEVICE.json` the keys that
//! go with a device that was named on the command line, whose secret is not kept.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Ask,
    keys::{KeptKeys, Keys},
    unexpected,
};
use crate::{
    cli::CliError,
    console::{Reply, Request},
    model::DeviceId,
};

/// A device to be.
pub(super) struct Identity {
    device: String,
    file: PathBuf,
    keys: Keys,
    secret: String,
}

/// The file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    device: String,
    keys: KeptKeys,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Identity {
    /// The device that the command line names; its keys are made once.
    pub(super) fn given(state_dir: &Path, device: &str, secret: &str) -> Result<Self, CliError> {
        // Also keeps anything but an id out of the file's name.
        let id: DeviceId = device
            .parse()
            .map_err(|error| CliError::Usage(format!("--device: `{device}` is not a device id: {error}")))?;
        let file = state_dir.join(format!("listen-{id}.json"));
        let keys = match read(&file)? {
            Some((_, keys)) => keys,
            None => {
                let keys = generate()?;
                write(&file, &Kept { device: device.to_owned(), keys: keys.keep(), secret: None })?;
                keys
            }
        };
        Ok(Self { device: device.to_owned(), file, keys, secret: secret.to_owned() })
    }

    /// The device of last time, or a new one that the gateway pairs.
    pub(super) fn paired(state_dir: &Path, ask: Ask<'_>) -> Result<Self, CliError> {
        let file = state_dir.join("listen.json");
        if let Some((Kept { device, secret: Some(secret), .. }, keys)) = read(&file)? {
            return Ok(Self { device, file, keys, secret });
        }
        let mut identity = Self { device: String::new(), file, keys: generate()?, secret: String::new() };
        identity.pair_again(ask)?;
        Ok(identity)
    }

    /// Becomes a new device, with the same keys.
    pub(super) fn pair_again(&mut self, ask: Ask<'_>) -> Result<(), CliError> {
        let reply = ask(&Request::DeviceAdd {
            name: format!("listen@{}", host_name()),
            transport: "mqtt".to_owned(),
        })?;
        let Reply::Paired(pairing) = reply else { return Err(unexpected(&reply)) };
        self.device = pairing.device;
        self.secret = pairing.secret;
        let secret = Some(self.secret.clone());
        write(&self.file, &Kept { device: self.device.clone(), keys: self.keys.keep(), secret })
    }

    /// Its id: user name and second level of all topics.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// What pushes are decrypted with.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The password.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("device", &self.device).finish_non_exhaustive()
    }
}

fn generate() -> Result<Keys, CliError> {
    Keys::generate().map_err(|error| CliError::Failed(format!("the system gives no random numbers: {error}")))
}

fn read(file: &Path) -> Result<Option<(Kept, Keys)>, CliError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", file, &error)),
    };
    // The parser's own words might quote a secret.
    let kept = serde_json::from_str::<Kept>(&text).ok();
    let known = kept.and_then(|kept| kept.keys.read().map(|keys| (kept, keys)));
    known.map(Some).ok_or_else(|| {
        CliError::Failed(format!(
            "{} does not hold the keys of a listener; remove it, and `listen` makes new ones",
            file.display()
        ))
    })
}

/// Writes the whole file or nothing, readable by its owner only from the first byte.
fn write(file: &Path, kept: &Kept) -> Result<(), CliError> {
    let attempt = || -> io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let new = file.with_extension("json.new");
        // What an interrupted attempt left behind may have another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        target.write_all(&serde_json::to_vec(kept)?)?;
        target.sync_all()?;
        fs::rename(&new, file)?;
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|error| failed("write", file, &error))
}

fn failed(what: &str, file: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!(
        "cannot {what} {}: {error}; run this as the gateway's user, or choose another place with --state-dir",
        file.display()
    ))
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::console::Pairing;

    /// Pairs 0000000000001, 0000000000002 and so on.
    fn gateway(paired: &Cell<u32>) -> impl Fn(&Request) -> Result<Reply, CliError> {
        move |request| {
            assert!(matches!(request, Request::DeviceAdd { name, .. } if name.starts_with("listen@")));
            paired.set(paired.get() + 1);
            let (device, uri) = (format!("{:013}", paired.get()), String::new());
            Ok(Reply::Paired(Pairing { device, secret: format!("secret {}", paired.get()), uri }))
        }
    }

    #[test]
    fn it_is_paired_once_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("new/state");
        let paired = Cell::new(0);
        let first = Identity::paired(&state, &gateway(&paired)).unwrap();
        let mut second = Identity::paired(&state, &gateway(&paired)).unwrap();
        assert_eq!(paired.get(), 1);
        assert_eq!((second.device(), second.secret()), ("0000000000001", "secret 1"));
        assert_eq!(second.keys().public(), first.keys().public());

        second.pair_again(&gateway(&paired)).unwrap();
        let third = Identity::paired(&state, &gateway(&paired)).unwrap();
        assert_eq!((third.device(), third.secret()), ("0000000000002", "secret 2"));
        assert_eq!(third.keys().public(), first.keys().public(), "what application servers know stays valid");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state.join("listen.json")), mode(&state)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_left_over_file_does_not_lend_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("listen.json.new");
        fs::write(&left, "").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        Identity::paired(dir.path(), &gateway(&Cell::new(0))).unwrap();
        let mode = fs::metadata(dir.path().join("listen.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_given_device_keeps_its_keys_but_not_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::given(dir.path(), "0000000000009", "hush").unwrap();
        let second = Identity::given(dir.path(), "0000000000009", "hush").unwrap();
        assert_eq!(first.keys().public(), second.keys().public());
        let file = fs::read_to_string(dir.path().join("listen-0000000000009.json")).unwrap();
        assert!(!file.contains("hush"), "{file}");
        let other = Identity::given(dir.path(), "0000000000008", "hush").unwrap();
        assert_ne!(first.keys().public(), other.keys().public());
        assert!(!format!("{first:?}").contains("hush"));
    }

    #[test]
    fn a_device_id_is_not_a_path() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["../../etc/pass", "", "0000000000000/x"] {
            let error = Identity::given(dir.path(), wrong, "s").unwrap_err();
            assert!(matches!(error, CliError::Usage(_)), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listen.json");
        for text in ["", "{", r#"{"device":"d","secret":"hush","keys":{"auth":"hush","key":"hush"}}"#] {
            fs::write(&file, text).unwrap();
            let error = Identity::paired(dir.path(), &gateway(&Cell::new(0))).unwrap_err().to_string();
            assert!(error.contains("listen.json") && error.contains("remove it"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
