//! Figures of this process from `/proc/self`. What cannot be read is left out.

use std::fs;

use crate::telemetry::Exposition;

/// Adds the process's figures, under the names that Prometheus' client libraries use.
pub fn expose(out: &mut Exposition) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let ticks = sysconf(libc::_SC_CLK_TCK);
        let page = sysconf(libc::_SC_PAGESIZE);
        let cpu_s = stat.cpu_ticks as f64 / ticks;
        out.counter_f64("process_cpu_seconds_total", "CPU time used, user and system.", &[], cpu_s);
        out.gauge("process_threads", "Threads.", &[], stat.threads as f64);
        let virtual_bytes = stat.virtual_bytes as f64;
        out.gauge("process_virtual_memory_bytes", "Virtual memory.", &[], virtual_bytes);
        out.gauge("process_resident_memory_bytes", "Resident memory.", &[], stat.resident_pages as f64 * page);
        if let Some(boot_s) = boot_time_s() {
            let start_s = boot_s + stat.start_ticks as f64 / ticks;
            out.gauge("process_start_time_seconds", "Start, seconds since 1970.", &[], start_s);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Open file descriptors.", &[], entries.count() as f64);
    }
    if let Some(max) = max_fds() {
        out.gauge("process_max_fds", "Most file descriptors that may be open.", &[], max);
    }
}

/// The fields of `/proc/self/stat` that are used; see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command's name, in parentheses, may hold blanks and parentheses itself. Field 3 follows it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_time_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn sysconf(name: libc::c_int) -> f64 {
    // SAFETY: sysconf reads no memory of ours and any name is allowed.
    let value = unsafe { libc::sysconf(name) };
    value.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Format;

    #[test]
    fn a_command_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = "1 (a) b (c)) S 0 0 0 0 0 0 0 0 0 0 7 5 0 0 20 0 3 0 99 4096 12 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { cpu_ticks: 12, threads: 3, start_ticks: 99, virtual_bytes: 4096, resident_pages: 12 });
        assert_eq!(Stat::parse("1 (x"), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let mut out = Exposition::default();
        expose(&mut out);
        let text = out.render(Format::Prometheus);
        for name in
            ["resident_memory_bytes", "threads", "open_fds", "max_fds", "cpu_seconds_total", "start_time_seconds"]
        {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name}: {text}");
        }
    }
}
