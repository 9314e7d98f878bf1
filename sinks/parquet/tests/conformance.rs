//! The suite that every sink passes.

use sink_api::conformance::{Options, run};
use sink_api::sink::Retention;
use sink_parquet::Config;

#[test]
fn answers_are_those_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { detail_days: 60, aggregate_months: 12 };
    let config = Config { path: folder.path().to_path_buf(), retention, row_group_rows: 3_000, ..Config::default() };
    let options = Options { flows: 100_000, days: 40, detail: true };
    let report = run(&config, &options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    assert!(report.questions > 500, "{report:?}");
}
