//! What the kernel says about this process, read when somebody asks. Where there is no `/proc` these families are absent:
//! a figure is measured or not given.

use super::reading::{Kind, Reader, Reading};

/// Ticks a second in `/proc/*/stat`; part of the Linux ABI (proc(5), `USER_HZ`), whatever the kernel runs at.
const TICKS: f64 = 100.0;

/// What the process uses and may use. What the kernel does not say is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Bytes in RAM.
    pub memory: Option<f64>,
    /// The most: of the control group, or what the machine has.
    pub memory_limit: Option<f64>,
    /// Processor time used, seconds.
    pub cpu_seconds: Option<f64>,
    /// Processors that it may use.
    pub cpus: Option<f64>,
    /// Open file descriptors.
    pub descriptors: Option<f64>,
    /// The most.
    pub descriptors_limit: Option<f64>,
}

impl Usage {
    /// Now.
    pub fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        #[expect(clippy::cast_precision_loss, reason = "a number of processors")]
        let cpus = std::thread::available_parallelism().ok().map(|count| count.get() as f64);
        Self {
            memory: status.as_deref().and_then(|status| kilobytes(status, "VmRSS:")),
            memory_limit: memory_limit(),
            cpu_seconds: stat.as_deref().and_then(cpu_seconds),
            cpus,
            descriptors: open_files(),
            descriptors_limit: most_files(),
        }
    }
}

/// The smallest of what the control groups above the process allow (version 2 or 1) and what the machine has.
fn memory_limit() -> Option<f64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |path: &std::path::Path| -> Option<f64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let mut least = machine;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = std::path::Path::new(root).join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(root)) {
            least = [least, limit(&folder.join(file))].into_iter().flatten().reduce(f64::min);
        }
    }
    least
}

pub(super) fn read(reader: &mut dyn Reader) {
    let (Ok(stat), Ok(status)) =
        (std::fs::read_to_string("/proc/self/stat"), std::fs::read_to_string("/proc/self/status"))
    else {
        return;
    };
    let mut one = |name: &'static str, help: &'static str, kind: Kind, value: Option<f64>| {
        if let Some(value) = value {
            reader.family(name, help, kind);
            reader.series(&[], None, Reading::Measured(value));
        }
    };
    one("process_cpu_seconds_total", "Processor time used, user and system.", Kind::Counter, cpu_seconds(&stat));
    one("process_resident_memory_bytes", "Memory in RAM.", Kind::Gauge, kilobytes(&status, "VmRSS:"));
    one("process_virtual_memory_bytes", "Address space in use.", Kind::Gauge, kilobytes(&status, "VmSize:"));
    one("process_threads", "Threads.", Kind::Gauge, field(&status, "Threads:"));
    one("process_open_fds", "Open file descriptors.", Kind::Gauge, open_files());
    one("process_max_fds", "Most file descriptors that may be open.", Kind::Gauge, most_files());
    one("process_start_time_seconds", "When the process began, since the Unix epoch.", Kind::Gauge, started(&stat));
}

/// Field `number` of `/proc/self/stat`, counted from 1 as proc(5) does. The second holds the program's name in brackets and
/// may hold anything, so counting begins behind the last bracket.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS)
}

fn started(stat: &str) -> Option<f64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    Some(field(&boot, "btime ")? + stat_field(stat, 22)? / TICKS)
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    Some(field(status, name)? * 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "a number of files")]
fn open_files() -> Option<f64> {
    // The descriptor that lists them is not counted.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn most_files() -> Option<f64> {
    field(&std::fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_used_is_less_than_what_may_be() {
        let usage = Usage::now();
        assert!(usage.memory.unwrap() > 100_000.0 && usage.memory < usage.memory_limit, "{usage:?}");
        assert!(usage.descriptors.unwrap() >= 3.0 && usage.descriptors < usage.descriptors_limit, "{usage:?}");
        assert!(usage.cpus.unwrap() >= 1.0 && usage.cpu_seconds.is_some(), "{usage:?}");
    }

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) 1 2 (b)) S 1 7 7 0 -1 4194560 99 0 0 0 150 50 0 0 20 0 3 0 4200 1000 200";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}
