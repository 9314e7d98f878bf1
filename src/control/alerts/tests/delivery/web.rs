//! A small HTTP server that remembers what it was sent and answers as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }
}

/// Serves until the test ends.
pub struct WebServer {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl WebServer {
    /// Answers requests with these statuses, one after another; the last one for ever.
    pub fn start(statuses: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { addr: listener.local_addr().unwrap(), requests: Arc::default() };
        let requests = server.requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that gives up is its own business.
                let _ = serve(stream, &statuses, &requests);
            }
        });
        server
    }

    /// Accepts connections and never answers.
    pub fn hang() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { addr: listener.local_addr().unwrap(), requests: Arc::default() };
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, statuses: &[u16], requests: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let Some((first, headers)) = lines.split_first() else { return Ok(()) };
    let pair = |line: &String| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let headers: Vec<_> = headers.iter().filter_map(pair).collect();
    let mut request = Request { line: first.clone(), headers, body: Vec::new() };
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut request.body)?;
    let status = {
        let mut requests = requests.lock().unwrap();
        requests.push(request);
        statuses.get(requests.len() - 1).or(statuses.last()).copied().unwrap_or(200)
    };
    let location = if status == 302 { "location: /elsewhere\r\n" } else { "" };
    write!(stream, "HTTP/1.1 {status} X\r\n{location}connection: close\r\ncontent-length: 0\r\n\r\n")
}
