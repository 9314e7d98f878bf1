//! Mail, against a small SMTP server that speaks STARTTLS with a certificate made for the test.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// What a session brought.
#[derive(Debug, Default)]
struct Session {
    encrypted: bool,
    commands: Vec<String>,
    mail: String,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Serves one session; with `tls` it offers and takes STARTTLS.
fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Session {
    let (socket, _) = listener.accept().unwrap();
    let mut session = Session::default();
    let mut stream: Box<dyn Stream> = Box::new(socket.try_clone().unwrap());
    stream.write_all(b"220 test\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return session;
        }
        let line = line.trim_end().to_owned();
        session.commands.push(line.clone());
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match &*word {
            "EHLO" if tls.is_some() && !session.encrypted => b"250-test\r\n250 STARTTLS\r\n",
            "EHLO" => b"250-test\r\n250 AUTH PLAIN\r\n",
            "AUTH" => b"235 welcome\r\n",
            "STARTTLS" => b"220 go on\r\n",
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        reader.get_mut().write_all(answer).unwrap();
        reader.get_mut().flush().unwrap();
        match (&*word, &tls) {
            ("STARTTLS", Some(config)) => {
                let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                let stream = rustls::StreamOwned::new(connection, socket.try_clone().unwrap());
                reader = BufReader::new(Box::new(stream));
                session.encrypted = true;
            }
            ("DATA", _) => {
                session.mail = read_mail(&mut reader);
                reader.get_mut().write_all(b"250 taken\r\n").unwrap();
                reader.get_mut().flush().unwrap();
            }
            ("QUIT", _) => return session,
            _ => {}
        }
    }
}

fn read_mail(reader: &mut BufReader<Box<dyn Stream>>) -> String {
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the mail ended early");
        if line == ".\r\n" {
            return mail;
        }
        mail += &line;
    }
}

fn receiver(listener: &TcpListener, tls: Tls) -> ReceiverConfig {
    ReceiverConfig {
        server: format!("localhost:{}", listener.local_addr().unwrap().port()),
        tls,
        from: "Netflow <netflow@example.net>".into(),
        to: vec!["ops@example.net".into(), "noc@example.net".into()],
        ..ReceiverConfig::new("mail", ReceiverKind::Mail)
    }
}

#[test]
fn a_mail_goes_to_everybody_and_its_headers_cannot_be_forged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = receiver(&listener, Tls::None);
    let server = std::thread::spawn(move || serve(listener, None));
    test_receiver(&receiver, Path::new("."), sample_alert(), T0).unwrap();
    let session = server.join().unwrap();
    let recipients = session.commands.iter().filter(|command| command.starts_with("RCPT TO:")).count();
    assert_eq!(recipients, 2, "{:?}", session.commands);
    assert!(session.mail.contains("From: Netflow <netflow@example.net>\r\n"), "{}", session.mail);
    let head = session.mail.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("Subject: [test] sink evil"), "{head}");
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(session.mail.contains("type sink_lag, severity medium"));
}

#[test]
fn mail_with_starttls_is_encrypted_and_the_server_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    let Ok(made) = made else {
        println!("skipped: openssl is not installed");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        )
        .unwrap();
    let tls = Arc::new(tls);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trusting = ReceiverConfig {
        ca_file: Some("cert.pem".into()),
        username: "user".into(),
        password: "password".into(),
        ..receiver(&listener, Tls::Starttls)
    };
    let server = std::thread::spawn({
        let tls = tls.clone();
        move || serve(listener, Some(tls))
    });
    test_receiver(&trusting, folder.path(), sample_alert(), T0).unwrap();
    let session = server.join().unwrap();
    assert!(session.encrypted && session.mail.contains("Subject: "), "{session:?}");
    let before: Vec<_> = session.commands.iter().take_while(|command| *command != "STARTTLS").collect();
    assert!(before.iter().all(|command| command.starts_with("EHLO")), "said in the open: {before:?}");
    assert!(session.commands.iter().any(|command| command.starts_with("AUTH PLAIN")));

    // An unknown authority, and a server without TLS: no mail.
    for offers in [Some(tls), None] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let distrusting = receiver(&listener, Tls::Starttls);
        let server = std::thread::spawn(move || serve(listener, offers));
        test_receiver(&distrusting, folder.path(), sample_alert(), T0).unwrap_err();
        let session = server.join().unwrap();
        assert_eq!(session.mail, "");
        assert!(!session.commands.iter().any(|command| command.starts_with("MAIL")), "{:?}", session.commands);
    }
}
