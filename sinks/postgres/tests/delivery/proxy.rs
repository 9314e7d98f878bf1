//! A TCP proxy that cuts connections where it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where the next connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// After so many bytes from the client.
    After(usize),
    /// After so many bytes from the client the server's process with this number is killed, with the rest unread.
    Kill(usize, u32),
    /// After the server has done the COMMIT of a group, before its answer is passed on.
    Commit,
}

pub struct Proxy {
    pub port: u16,
    /// Taken by the next connection.
    pub cut: Arc<Mutex<Cut>>,
}

impl Proxy {
    /// A proxy in front of a local port. It ends with the process.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Cut::Never));
        let next = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let cut = std::mem::replace(&mut *next.lock().unwrap(), Cut::Never);
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    pass(client, server, cut);
                }
            }
        });
        Self { port, cut }
    }
}

fn pass(client: TcpStream, server: TcpStream, cut: Cut) {
    let silent = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, mut to_client) = (server, client);
    let muted = Arc::clone(&silent);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let (mut passed, mut in_group) = (0, false);
        while let Ok(n @ 1..) = from_client.read(&mut buffer) {
            let n = if let Cut::After(bytes) | Cut::Kill(bytes, _) = cut { n.min(bytes - passed) } else { n };
            let says = |word: &[u8]| buffer[..n].windows(word.len()).any(|bytes| bytes == word);
            in_group |= says(b"INTO netflow.cursors");
            if cut == Cut::Commit && in_group && says(b"COMMIT\0") {
                muted.store(true, Ordering::SeqCst);
            }
            passed += n;
            if let Cut::Kill(bytes, pid) = cut
                && bytes == passed
            {
                crate::server::signal(pid, "KILL");
                break;
            }
            if to_server.write_all(&buffer[..n]).is_err() || cut == Cut::After(passed) {
                break;
            }
        }
        let _ = from_client.shutdown(Shutdown::Both);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_server.read(&mut buffer) {
            // What the server says to a COMMIT shows that it is done.
            if silent.load(Ordering::SeqCst) || to_client.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = from_server.shutdown(Shutdown::Both);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
