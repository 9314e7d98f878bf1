//! CPU time of the client and of the server, from `/proc`, for the benches beside bare COPY.

/// Clock ticks in a second (`USER_HZ`), fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of a server by its postmaster. Read twice: a process that ends between two reads of one pass is missing in that pass.
pub fn server_cpu_s(postmaster: u32) -> f64 {
    postmaster_cpu_s(postmaster).max(postmaster_cpu_s(postmaster))
}

/// CPU seconds of the postmaster with what has ended, and of its processes that live.
fn postmaster_cpu_s(postmaster: u32) -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|pid| parent(*pid) == Some(postmaster));
    cpu_s(postmaster) + children.map(cpu_s).sum::<f64>()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// CPU seconds of a process and its children that have ended.
pub fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}
