//! How long the program takes from its start until it is ready for flows and questions, and how large it is.
//!
//! `cargo bench --bench start`: an empty folder and the defaults, ten times; then the same folder again, with what it holds.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rgz-netflow");
const ROUNDS: usize = 10;
/// Longest wait for a start.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to save, and may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> io::Result<()> {
    let mut fresh = Vec::new();
    let mut again = Vec::new();
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        fresh.push(start(folder.path())?);
        again.push(start(folder.path())?);
    }
    for (what, times) in [("an empty folder", &mut fresh), ("a folder that was used", &mut again)] {
        times.sort();
        let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
        println!("ready from {what}: median {:.0} ms, most {:.0} ms", ms(ROUNDS / 2), ms(ROUNDS - 1));
    }
    let folder = tempfile::tempdir()?;
    let stripped = folder.path().join("rgz-netflow");
    std::fs::copy(PROGRAM, &stripped)?;
    let strip = Command::new("strip").arg(&stripped).status();
    let how = if strip.is_ok_and(|status| status.success()) { "stripped" } else { "not stripped: no strip here" };
    println!("the program has {:.1} MB, {how}", std::fs::metadata(&stripped)?.len() as f64 / 1e6);
    Ok(())
}

/// Time from the start of a process until it says that it is ready.
fn start(folder: &Path) -> io::Result<Duration> {
    let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = format!("[receive]\nlisten = [\"{udp}\"]\n[admin]\nlisten = \"{admin}\"\n");
    std::fs::write(folder.join("pipeline.toml"), text)?;
    let begun = Instant::now();
    let mut command = Command::new(PROGRAM);
    command.arg("run").current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(command.spawn()?);
    while ureq::get(format!("http://{admin}/readyz")).call().is_err() {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("it is not ready in a minute"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(begun.elapsed())
}
