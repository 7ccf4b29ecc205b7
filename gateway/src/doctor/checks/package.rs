//! Where the gateway is a Debian package: whether an installation of it was cut off.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::doctor::Finding;

/// What dpkg knows. In `updates` lie the newest records, until dpkg merges them into `status`.
const DPKG: &str = "/var/lib/dpkg";
const NAME: &str = "unifiedpush-gateway";

pub(in crate::doctor) fn check() -> Vec<Finding> {
    state(Path::new(DPKG)).map(|state| vec![judged(&state)]).unwrap_or_default()
}

pub(in crate::doctor) fn judged(state: &str) -> Finding {
    if state == "installed" {
        return Finding::good(format!("the package {NAME} is wholly installed"));
    }
    Finding::problem(
        format!("the package {NAME} is {state}: its installation was cut off"),
        "`dpkg --configure -a`, then install the package again; the state and the settings are not touched by that",
    )
}

/// The last word of the package's `Status:`, unless it is none of dpkg's.
pub(in crate::doctor) fn state(dpkg: &Path) -> Option<String> {
    let mut updates = updates(&dpkg.join("updates")).unwrap_or_default();
    updates.sort();
    let files = [dpkg.join("status")].into_iter().chain(updates);
    let newest =
        files.filter_map(|file| fs::read_to_string(file).ok()).filter_map(|text| of(&text)).next_back()?;
    (newest != "not-installed" && newest != "config-files").then_some(newest)
}

fn updates(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Of records that empty lines part (deb-control(5)).
fn of(records: &str) -> Option<String> {
    let is_ours = |record: &&str| record.lines().any(|line| line == format!("Package: {NAME}"));
    let record = records.split("\n\n").filter(is_ours).last()?;
    let status = record.lines().find_map(|line| line.strip_prefix("Status: "))?;
    status.split(' ').next_back().map(str::to_owned)
}
