//! The container without an engine: its files name what is there, and the program runs in a bare root folder that holds only what
//! the image would.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{PROGRAM, Process, free_tcp_port, free_udp_port, installed, is_root, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The compose file as JSON, read by Python's YAML; `None` with the reason printed where that is missing.
fn compose() -> Option<Value> {
    if !installed("python3") {
        return None;
    }
    let script = "import sys, json\ntry:\n    import yaml\nexcept ImportError:\n    sys.exit(7)\nprint(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new("python3").args(["-c", script]).arg(root().join("docker/compose.yml")).output().unwrap();
    if output.status.code() == Some(7) {
        println!("skipped: python3 has no yaml (Debian: apt-get install python3-yaml)");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn every_path_of_the_dockerfile_is_there() {
    let mut copied = 0;
    for line in read("docker/Dockerfile").lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        for path in &words[..words.len() - 1] {
            assert!(root().join(path).exists(), "{line}: {path} is not there");
            copied += 1;
        }
    }
    assert!(copied >= 9, "{copied}");
    // What cargo needs to build is copied: every member of the workspace.
    for member in ["sinks", "src", "benches", "Cargo.lock"] {
        assert!(read("docker/Dockerfile").contains(member), "{member}");
    }
}

#[test]
fn the_compose_file_has_its_profiles_names_and_paths() {
    let Some(compose) = compose() else { return };
    let services = compose["services"].as_object().unwrap();
    let mut profiles = BTreeSet::new();
    for (name, service) in services {
        assert_eq!(service["container_name"], *name);
        profiles.extend(service["profiles"].as_array().into_iter().flatten().map(|p| p.as_str().unwrap().to_owned()));
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().replace("${PIPELINE:-pipeline.toml}", "pipeline.toml");
            let source = source.split(':').next().unwrap().to_owned();
            if source.starts_with('.') {
                assert!(root().join("docker").join(&source).exists(), "{name}: {source} is not there");
            } else {
                assert!(compose["volumes"].as_object().unwrap().contains_key(&source), "{name}: volume {source}");
            }
        }
    }
    assert_eq!(profiles.into_iter().collect::<Vec<_>>(), ["influxdb", "monitoring", "timescaledb"]);
    let collector = &services["rgz-netflow"];
    assert!(collector["profiles"].is_null(), "the collector runs in every profile");
    assert_eq!(services["rgz-db"]["environment"]["POSTGRES_DB"], "${DB_NAME:-rgz}");
    let variables = collector["environment"].as_object().unwrap().keys();
    for name in variables {
        let known = rgz_netflow::control::config::VARIABLES.iter().any(|variable| variable.name == name);
        assert!(known, "{name} is no variable of the collector");
    }
}

#[test]
fn the_containers_configuration_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/token"), "0123456789abcdef0123456789abcdef").unwrap();
    for name in ["pipeline.toml", "pipeline-influxdb.toml"] {
        let text = read(&format!("docker/{name}"));
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind = ")).collect();
        let known = |kind: &&str| sinks::KINDS.iter().any(|known| format!("\"{}\"", known.name) == **kind);
        if !kinds.iter().all(known) {
            println!("skipped: {name} names a kind that is not built in: {kinds:?}");
            continue;
        }
        std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
        let output = Command::new(PROGRAM).arg("config").current_dir(folder.path()).env_clear().output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

/// Copies a program and the libraries that the dynamic linker finds for it to the same places under `root`.
fn copy_with_libraries(program: &Path, to: &Path, root: &Path) {
    let target = root.join(to.strip_prefix("/").unwrap());
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::copy(program, &target).unwrap();
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(word.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(word, target).unwrap();
    }
}

/// A root folder with the program, a shell and the few tools of the start script, and the configuration.
fn image(root: &Path, configuration: &str) {
    copy_with_libraries(Path::new(PROGRAM), Path::new("/usr/local/bin/rgz-netflow"), root);
    for tool in ["/bin/sh", "/bin/mkdir", "/usr/bin/od", "/usr/bin/tr", "/bin/ln"] {
        copy_with_libraries(Path::new(tool), Path::new(tool), root);
    }
    let file = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("usr/local/bin/rgz-netflow-start", &read("docker/entrypoint.sh"));
    file("etc/rgz-netflow/pipeline.toml", configuration);
    file("etc/passwd", "netflow:x:2055:2055::/var/lib/rgz-netflow:/usr/sbin/nologin\n");
    // Not a device: any 32 bytes do here, and no device can be made in every sandbox.
    file("dev/urandom", &"0123456789abcdefghijklmnopqrstuv".repeat(4));
    file("dev/null", "");
    let data = root.join("var/lib/rgz-netflow");
    std::fs::create_dir_all(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(2055), Some(2055)).unwrap();
    std::fs::set_permissions(root.join("dev/null"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A command in that root as the image's user.
fn inside(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command.arg("--userspec=2055:2055").arg(root).args(words);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command
}

#[test]
fn the_program_runs_in_a_bare_root_without_being_root() {
    if !is_root() || !installed("chroot") || !installed("ldd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let (port, admin, metrics) = (free_udp_port(), free_tcp_port(), free_tcp_port());
    let configuration = read("docker/pipeline.toml")
        .replace("127.0.0.1:9100", &format!("127.0.0.1:{admin}"))
        .replace("metrics_port = 9101", &format!("metrics_port = {metrics}"));
    image(&root, &format!("{configuration}[receive]\nlisten = [\"127.0.0.1:{port}\"]\n"));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = folder.path().join("log");
    let start = ["/bin/sh", "/usr/local/bin/rgz-netflow-start", "run"];
    let mut process = Process::start(&mut inside(&root, &start), &log);
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    let healthy = || {
        // As HEALTHCHECK does, in the working folder of the image.
        let check = "cd /var/lib/rgz-netflow && exec rgz-netflow health";
        inside(&root, &["/bin/sh", "-c", check]).output().is_ok_and(|output| output.status.success())
    };
    wait_until("the container is healthy", PATIENCE, || {
        assert!(process.0.try_wait().unwrap().is_none(), "it ended:\n{}", told());
        healthy()
    });
    let token_file = root.join("var/lib/rgz-netflow/secrets/token");
    let token = std::fs::read_to_string(&token_file).unwrap();
    assert_eq!((token.len(), token_file.metadata().unwrap().permissions().mode() & 0o777), (64, 0o600));
    // The API wants the token, the metrics do not.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("http://127.0.0.1:{admin}/api/v1/netflow/ledger");
    assert_eq!(agent.get(&url).call().unwrap().status(), 401);
    assert_eq!(agent.get(&url).header("authorization", format!("Bearer {token}")).call().unwrap().status(), 200);
    assert_eq!(agent.get(format!("http://127.0.0.1:{metrics}/metrics")).call().unwrap().status(), 200);
    // Flows arrive and stay under the data folder; the token outlives a restart.
    let to = format!("127.0.0.1:{port}");
    let sent = Command::new(PROGRAM).args(["generate", "--to", &to, "--count", "300", "--json"]).output().unwrap();
    assert!(sent.status.success());
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success(), "{}", told());
    assert!(root.join("var/lib/rgz-netflow/data").is_dir(), "{}", told());
    let _again = Process::start(&mut inside(&root, &start), &log);
    wait_until("the container is healthy again", PATIENCE, healthy);
    assert_eq!(std::fs::read_to_string(&token_file).unwrap(), token);
}
