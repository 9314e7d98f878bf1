//! Environment files.

use super::super::document::Origin;
use super::super::read::Problem;
use super::Environment;

/// Reads an environment file: `NAME=value` lines, `export` allowed, `#` comments.
///
/// # Errors
/// Every line that is neither.
pub fn parse_file(file: &str, text: &str) -> Result<Environment, Vec<Problem>> {
    let (mut environment, mut problems) = (Environment::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match line.split_once('=').map(|(name, value)| (name.trim(), value)) {
            Some((name, value)) if is_name(name) => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => problems.push(Problem {
                origin: Origin::File { file: file.to_owned(), line: index + 1 },
                key: String::new(),
                problem: "allowed is NAME=value or a comment".to_owned(),
            }),
        }
    }
    if problems.is_empty() { Ok(environment) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_files_read_as_shells_write_them() {
        let text = "# comment\n\nNETFLOW_PORT=9995  # port\nexport LOG_LEVEL=DEBUG\nEMPTY=\n";
        let environment = parse_file("x.env", text).unwrap();
        assert_eq!(environment["NETFLOW_PORT"], "9995  # port");
        assert_eq!((environment["LOG_LEVEL"].as_str(), environment["EMPTY"].as_str()), ("DEBUG", ""));
        let problems = parse_file("x.env", "A=1\nnonsense\n=3").unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["x.env:2: allowed is NAME=value or a comment", "x.env:3: allowed is NAME=value or a comment"]
        );
    }
}
