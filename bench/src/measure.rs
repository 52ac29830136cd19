//! What the kernel says of processes and of the machine: processor time, memory,
//! descriptors. Everything is read at two moments and subtracted by whoever measures.
//!
//! A process's time comes from its processor clock, exact to the nanosecond and with
//! its ended threads; the machine's from the idle time of all processors, so that work
//! done in kernel threads counts too.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Processor time of some programs, each with all its descendants.
pub type ByProgram = BTreeMap<&'static str, Duration>;

/// Processor time that each program and its descendants have used; programs of one
/// name are added up.
///
/// # Errors
/// When a program has ended.
pub fn processor_time(programs: &[(&'static str, u32)]) -> io::Result<ByProgram> {
    let mut times = ByProgram::new();
    let tree = Tree::read()?;
    for &(name, pid) in programs {
        let mut time = used_by(pid)?;
        for child in tree.descendants(pid) {
            // One that has ended meanwhile is in its parent's account of the reaped.
            time += used_by(child).unwrap_or_default();
        }
        time += tree.reaped_by(pid);
        *times.entry(name).or_default() += time;
    }
    Ok(times)
}

fn used_by(pid: u32) -> io::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    let now = clock_getcpuclockid(pid)?.now()?;
    Ok(Duration::from(now))
}

/// All processes: number -> parent, and processor time of its reaped children.
struct Tree(BTreeMap<u32, (u32, Duration)>);

impl Tree {
    fn read() -> io::Result<Self> {
        let numbers = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(Self(
            numbers.filter_map(|pid| Some((pid, stat(pid)?))).collect(),
        ))
    }

    fn descendants(&self, pid: u32) -> Vec<u32> {
        let mut found = vec![pid];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(
                self.0
                    .iter()
                    .filter(|(_, (p, _))| *p == parent)
                    .map(|(pid, _)| pid),
            );
            next += 1;
        }
        found.split_off(1)
    }

    fn reaped_by(&self, pid: u32) -> Duration {
        self.0
            .get(&pid)
            .map_or(Duration::ZERO, |(_, reaped)| *reaped)
    }
}

/// Parent, and the time of reaped children: proc_pid_stat(5), fields 4, 16 and 17, the
/// latter in ticks of 10 ms.
fn stat(pid: u32) -> Option<(u32, Duration)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything, also spaces and parentheses.
    let (_, fields) = text.rsplit_once(") ")?;
    let field = |n: usize| fields.split(' ').nth(n - 3)?.parse::<u64>().ok();
    let reaped = Duration::from_millis((field(16)? + field(17)?) * 10);
    Some((u32::try_from(field(4)?).ok()?, reaped))
}

/// How busy the machine has been since it was asked first.
pub struct Machine {
    since: Instant,
    idle: Duration,
    processors: u32,
}

impl Machine {
    /// From now on.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read.
    pub fn from_now() -> io::Result<Self> {
        let (idle, processors) = idle()?;
        Ok(Self {
            since: Instant::now(),
            idle,
            processors,
        })
    }

    /// Processor time of everything on the machine since then, to 10 ms a processor.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read.
    pub fn busy(&self) -> io::Result<Duration> {
        let all = self.since.elapsed() * self.processors;
        Ok(all.saturating_sub(idle()?.0.saturating_sub(self.idle)))
    }
}

/// What all processors together did not do for us, and how many they are: idle, iowait
/// and stolen by the host (proc_stat(5)).
fn idle() -> io::Result<(Duration, u32)> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = fields.map(|fields| {
        let numbers = fields
            .split_whitespace()
            .map(|f| f.parse::<u64>().unwrap_or(0));
        numbers
            .enumerate()
            .filter(|(n, _)| matches!(n, 3 | 4 | 7))
            .map(|(_, n)| n)
            .sum::<u64>()
    });
    let ticks = ticks.ok_or_else(|| io::Error::other("/proc/stat has no cpu line"))?;
    let processors = text.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    Ok((
        Duration::from_millis(ticks * 10),
        u32::try_from(processors).unwrap_or(1),
    ))
}

/// The smallest of these, lowest first, that so many of 1,000 do not exceed.
pub fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    let rank = (sorted.len() * per_mille).div_ceil(1_000);
    let time = sorted.get(rank.saturating_sub(1));
    time.copied().unwrap_or_default()
}

/// Memory of processes and their descendants in KiB: what is theirs alone, and their
/// share of what is shared (PSS).
///
/// # Errors
/// When a process may not be looked into: an agent is not dumpable, so it takes root.
pub fn memory_kib(pids: impl IntoIterator<Item = u32>) -> io::Result<u64> {
    let tree = Tree::read()?;
    let mut total = 0;
    for pid in pids {
        total += pss_kib(pid)?;
        for child in tree.descendants(pid) {
            total += pss_kib(child)?;
        }
    }
    Ok(total)
}

fn pss_kib(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = kib.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.ok_or_else(|| io::Error::other("Linux >= 4.14 tells PSS in smaps_rollup"))
}

/// Open descriptors of a process and its descendants.
///
/// # Errors
/// When a process may not be looked into.
pub fn descriptors(pids: impl IntoIterator<Item = u32>) -> io::Result<usize> {
    let tree = Tree::read()?;
    let mut total = 0;
    for pid in pids {
        for one in std::iter::once(pid).chain(tree.descendants(pid)) {
            total += fs::read_dir(format!("/proc/{one}/fd"))?.count();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tidegate_local::child::Start;

    use super::*;

    #[test]
    fn a_program_is_charged_for_its_living_and_its_ended_children() {
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{burn}'; echo done; ({burn}; echo done; read _)");
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        // Ours keeps the shell waiting, until it is dropped.
        let (waits, _ours) = io::pipe().unwrap();
        command.stdin(waits).stdout(Stdio::piped());
        let mut child = Start::new(command).spawn().unwrap();
        let mut said = io::BufReader::new(child.stdout().unwrap());
        for _ in 0..2 {
            io::BufRead::read_line(&mut said, &mut String::new()).unwrap();
        }
        let times = processor_time(&[("sh", child.pid())]).unwrap();
        let own = used_by(child.pid()).unwrap();
        assert!(
            times["sh"] > own + Duration::from_millis(20),
            "{times:?}, itself {own:?}"
        );
    }

    #[test]
    fn the_machine_is_as_busy_as_what_runs_on_it() {
        let machine = Machine::from_now().unwrap();
        let me = || used_by(std::process::id()).unwrap();
        let before = me();
        while me() - before < Duration::from_millis(200) {}
        assert!(machine.busy().unwrap() > Duration::from_millis(150));
    }

    #[test]
    fn percentiles_are_exact() {
        let times: Vec<_> = (1..=2_000).map(Duration::from_micros).collect();
        for (per_mille, us) in [(500, 1_000), (990, 1_980), (999, 1_998), (1_000, 2_000)] {
            assert_eq!(percentile(&times, per_mille), Duration::from_micros(us));
        }
        assert_eq!(percentile(&times[..1], 990), times[0]);
        assert_eq!(percentile(&[], 990), Duration::ZERO);
    }

    #[test]
    fn memory_and_descriptors_of_a_process_are_counted() {
        let me = std::process::id();
        assert!(memory_kib([me]).unwrap() > 100);
        let before = descriptors([me]).unwrap();
        let _more: Vec<_> = (0..50)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        assert!(descriptors([me]).unwrap() >= before + 50);
    }
}
