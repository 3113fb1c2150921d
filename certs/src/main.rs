//! The program `blindsum-certs`; everything it does is in the library.

use std::sync::LazyLock;

use blindsum_certs::cli::{CertsCli, run};
use clap::{CommandFactory, FromArgMatches};

static VERSION: LazyLock<String> =
    LazyLock::new(|| blindsum_service::version(env!("CARGO_PKG_VERSION"), option_env!("BLINDSUM_COMMIT"), &[]));

fn main() -> std::process::ExitCode {
    let matches = CertsCli::command().version(VERSION.as_str()).get_matches();
    match CertsCli::from_arg_matches(&matches) {
        Ok(cli) => run(cli).into(),
        Err(error) => error.exit(),
    }
}
