//! Where the gateway's binary is, and building it when it is missing or older than its sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

const NAME: &str = "unifiedpush-gateway";

/// The binary under test: `GATEWAY_BIN`, or the one that cargo builds beside the tests.
pub(crate) fn gateway() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("GATEWAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a member of the workspace")
}

/// Cargo's target directory: this test is `<target>/<profile>/deps/<test>`.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile directory is below the target directory").to_path_buf()
}

fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test is a file in a directory");
    deps.parent().expect("tests are built below <target>/<profile>/deps").to_path_buf()
}

/// Cargo builds a package's binary for that package's own tests only, so it is built here.
fn built() -> PathBuf {
    let profile = profile_dir();
    let binary = profile.join(NAME);
    if modified(&binary).is_some_and(|built| built >= newest_source()) {
        return binary;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The same selection as `cargo test --workspace` gives the same features: nothing is built twice.
    cargo.args(["build", "--quiet", "--workspace", "--all-targets", "--target-dir"]).arg(target_dir());
    cargo.current_dir(workspace());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "building {NAME} failed: {status}");
    binary
}

fn newest_source() -> SystemTime {
    let manifests = ["Cargo.toml", "Cargo.lock", "gateway/Cargo.toml"].map(|name| workspace().join(name));
    let mut newest = manifests.iter().filter_map(|path| modified(path)).max();
    let mut directories = vec![workspace().join("gateway/src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the sources are readable").flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else {
                newest = newest.max(modified(&entry.path()));
            }
        }
    }
    newest.expect("the gateway has sources")
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
