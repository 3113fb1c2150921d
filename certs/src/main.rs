//! The program `blindsum-certs`; everything it does is in the library.

fn main() -> std::process::ExitCode {
    blindsum_certs::cli::main()
}
