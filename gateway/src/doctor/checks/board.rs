//! Where the gateway is an appliance: what the board's own start has found wrong with the owner's files.

use std::fs;

use crate::doctor::Finding;

/// Written at each start by the board's settings (gateway/packaging/board), a line a problem. There is no
/// such file on a machine that is no board.
const PROBLEMS: &str = "/run/board/problems";

pub(in crate::doctor) fn check() -> Vec<Finding> {
    fs::read_to_string(PROBLEMS).map(|said| told(&said)).unwrap_or_default()
}

pub(in crate::doctor) fn told(said: &str) -> Vec<Finding> {
    let problem = |what| {
        Finding::problem(
            what,
            "mend it on the FAT partition (in another computer, or here after `mount -o remount,rw /boot/firmware`) and restart the board, or `systemctl restart board-settings`; until then what was before holds",
        )
    };
    let findings: Vec<_> = said.lines().filter(|line| !line.is_empty()).map(problem).collect();
    if findings.is_empty() {
        return vec![Finding::good("settings.txt and gateway.toml on the FAT partition were applied")];
    }
    findings
}
