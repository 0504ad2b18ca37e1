//! What the kernel says about this process, read when somebody asks. Where there is no `/proc` these families are absent:
//! a figure is measured or not given.

use super::exposition::{Kind, Page};

/// Ticks a second in `/proc/*/stat`; part of the Linux ABI (proc(5), `USER_HZ`), whatever the kernel runs at.
const TICKS: f64 = 100.0;

pub(super) fn show(page: &mut Page) {
    let (Ok(stat), Ok(status)) =
        (std::fs::read_to_string("/proc/self/stat"), std::fs::read_to_string("/proc/self/status"))
    else {
        return;
    };
    let mut one = |name: &str, help: &str, kind: Kind, value: Option<f64>| {
        if let Some(value) = value {
            page.family(name, help, kind);
            page.sample(name, "", &[], value);
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

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) 1 2 (b)) S 1 7 7 0 -1 4194560 99 0 0 0 150 50 0 0 20 0 3 0 4200 1000 200";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}
