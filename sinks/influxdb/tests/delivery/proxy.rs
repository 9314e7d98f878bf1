//! A TCP proxy that cuts connections where it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Where connections are cut. Once: the first that comes so far takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// After so many bytes from the clients, counted over all connections.
    Request(usize),
    /// After so many bytes from the clients the process with this number is killed: the server, with the rest unread.
    Kill(usize, u32),
    /// Before the answer that follows so many bytes from the clients is passed on: the server has done its work.
    Answer(usize),
}

pub struct Proxy {
    pub port: u16,
    cut: Arc<Mutex<Cut>>,
}

impl Proxy {
    /// A proxy in front of a local port. It ends with the process.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Cut::Never));
        let shared = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    pass(client, server, &shared);
                }
            }
        });
        Self { port, cut }
    }

    pub fn set(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    /// Whether the cut was made.
    pub fn was_cut(&self) -> bool {
        *self.cut.lock().unwrap() == Cut::Never
    }
}

/// Bytes of a client's piece that are passed on; fewer than all when it is cut there.
fn taken(cut: &mut Cut, read: usize) -> usize {
    match cut {
        Cut::Request(left) if *left < read => {
            let n = *left;
            *cut = Cut::Never;
            n
        }
        Cut::Kill(left, pid) if *left < read => {
            let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            assert!(status.unwrap().success());
            let n = *left;
            *cut = Cut::Never;
            n
        }
        Cut::Request(left) | Cut::Kill(left, _) | Cut::Answer(left) => {
            *left = left.saturating_sub(read);
            read
        }
        Cut::Never => read,
    }
}

fn pass(client: TcpStream, server: TcpStream, cut: &Arc<Mutex<Cut>>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, mut to_client) = (server, client);
    let requests = Arc::clone(cut);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer) {
            let passed = taken(&mut requests.lock().unwrap(), n);
            if to_server.write_all(&buffer[..passed]).is_err() || passed < n {
                break;
            }
        }
        let _ = from_client.shutdown(Shutdown::Both);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let answers = Arc::clone(cut);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_server.read(&mut buffer) {
            let mut cut = answers.lock().unwrap();
            let lost = *cut == Cut::Answer(0);
            if lost {
                *cut = Cut::Never;
            }
            drop(cut);
            if lost || to_client.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = from_server.shutdown(Shutdown::Both);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
