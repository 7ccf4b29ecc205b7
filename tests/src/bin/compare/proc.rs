//! What the kernel says about a server: processor time, bytes written, resident memory.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::Result;

/// USER_HZ, in which /proc counts processor time: 100 on every architecture that Linux runs Rust on but two
/// long-retired ones.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Processor time in seconds, user and system, of all threads that ever ran.
    pub(crate) cpu_s: f64,
    /// Bytes that it caused to be sent to the storage layer.
    pub(crate) written: u64,
}

/// Reads `/proc/<pid>/stat` and `/proc/<pid>/io`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let written = field(&io, "write_bytes:").ok_or("/proc/<pid>/io has no write_bytes")?;
    Ok(Usage { cpu_s: cpu_s(pid)?, written })
}

/// Processor time of a process in seconds.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu_s(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not as expected").into())
}

/// utime and stime are fields 14 and 15; the name before them may hold blanks but ends at the last `)`.
fn parse_cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "VmRSS:").ok_or("/proc/<pid>/status has no VmRSS")? * 1024)
}

/// The most memory that was resident since its start, in bytes.
pub(crate) fn peak(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "VmHWM:").ok_or("/proc/<pid>/status has no VmHWM")? * 1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Waits until the process has written nothing for `rest`, then says what it used. Waits for at most 30 s:
/// a server that never rests is measured all the same, with what it writes charged to the burst.
pub(crate) fn settled(pid: u32, rest: Duration) -> Result<Usage> {
    let start = Instant::now();
    let mut last = usage(pid)?;
    let mut since = start;
    while since.elapsed() < rest && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(50));
        let now = usage(pid)?;
        if now.written != last.written {
            since = Instant::now();
        }
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 6 7 20 0 1 0 9";
        assert_eq!(parse_cpu_s(stat), Some(2.0));
    }

    #[test]
    fn this_process_has_memory_and_has_used_some_time() -> Result<()> {
        assert!(resident(std::process::id())? > 100_000);
        usage(std::process::id())?;
        Ok(())
    }
}
