//! Names the machine, and how busy it was: a figure without them means nothing.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::Instant,
};

use crate::{Result, measures::median};

/// One line: processor, cores, memory, kernel, distribution, file system and what a sync on it costs.
pub(crate) fn describe(work: &Path) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let board = fs::read_to_string("/proc/device-tree/model").unwrap_or_default();

    let cpu =
        [board.trim_matches(['\0', '\n']), value(&cpuinfo, "model name", ':'), value(&cpuinfo, "Model", ':')]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or("unknown processor")
            .to_owned();
    let virtual_machine = if cpuinfo.contains(" hypervisor") { " (virtual machine)" } else { "" };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory_kb: f64 = value(&meminfo, "MemTotal", ':').trim_end_matches(" kB").parse().unwrap_or(0.0);
    Ok(format!(
        "{cpu}{virtual_machine}, {cores} {}, {:.0} GB RAM, Linux {}, {}, {} with {:.2} ms per fdatasync of 1 KB, \
         load average {} before the first round",
        if cores == 1 { "core" } else { "cores" },
        memory_kb * 1024.0 / 1e9,
        kernel.trim(),
        value(&release, "PRETTY_NAME", '=').trim_matches('"'),
        file_system(work),
        sync_ms(work)?,
        load.split(' ').next().unwrap_or_default(),
    ))
}

fn value<'a>(text: &'a str, key: &str, separator: char) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map_or("", |(_, value)| value.trim())
}

/// The type of the file system that `path` is on: the longest mount point above it.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, "unknown file system");
    for line in mounts.lines() {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if path.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), kind);
        }
    }
    best.1.to_owned()
}

/// Median time of a synced append: what every durable answer has to pay at least once per batch.
fn sync_ms(work: &Path) -> Result<f64> {
    let path = work.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 1024])?;
        file.sync_data()?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(path)?;
    Ok(median(&samples))
}
