//! What the kernel says of a process: memory, descriptors, processor time,
//! children. Numbers for assertions about leaks and spinning.

use std::fs;
use std::time::Duration;

/// Resident memory in KiB, without what is shared with files.
pub fn memory_kib(pid: u32) -> u64 {
    let status = read(pid, "status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .map(str::trim);
    kib.and_then(|kib| kib.parse().ok())
        .expect("Linux >= 4.5 tells RssAnon")
}

/// Open descriptors.
///
/// # Panics
/// When the process runs as another user, on Linux before 6.2.
pub fn descriptors(pid: u32) -> usize {
    let directory = format!("/proc/{pid}/fd");
    // An agent forbids core dumps, and with them even its own user to list these;
    // how many there are is told to everybody.
    let told = fs::metadata(&directory).map_or(0, |m| m.len());
    match usize::try_from(told) {
        Ok(count) if count > 0 => count,
        _ => fs::read_dir(&directory)
            .expect("older kernels: run the tests as root")
            .count(),
    }
}

/// Processor time it has used, to 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let fields = stat(pid).expect("the process runs");
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10 ms.
    let ticks: u64 = fields[11..=12]
        .iter()
        .map(|f| f.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Whether it runs; one that has ended but was not waited for does not.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// All its descendants.
pub fn descendants(pid: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            processes
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(child, _)| child),
        );
        next += 1;
    }
    found.split_off(1)
}

/// The fields of `/proc/PID/stat` after the name, state first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything, also spaces and parentheses.
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs")
}
