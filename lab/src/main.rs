//! The `lab` program: all of it is in the library.

fn main() -> std::process::ExitCode {
    // First, while there is one thread: this process may be the sandbox's helper.
    lab::sandbox::dispatch();
    lab::cli::main()
}
