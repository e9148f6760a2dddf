fn main() -> std::process::ExitCode {
    sig_repo::cli::run()
}
