//! How PID 1 words a step for the shell, tested with the host's shells.

use std::os::fd::RawFd;

/// Where the shell finds its status pipe. One digit, because dash redirects no others; high, because
/// people take the low ones.
pub const STATUS: RawFd = 8;

/// The line that makes the shell run a step and report.
///
/// `command` keeps the failure of a special builtin or a syntax error within the step, where the
/// shell would end otherwise (POSIX, 2.8.1). Standard input is not the script, nor does any
/// program of the step have the status pipe. The report's standard error is closed, so that `set
/// -x` does not show it. The backslashes keep aliases out.
pub fn script_line(text: &str) -> String {
    // A here-document's last line wants its newline; single lines look better without in `set -x`.
    let end = if text.contains('\n') { "\n" } else { "" };
    let quoted = text.replace('\'', r"'\''");
    format!(
        "\\command eval '{quoted}{end}' </dev/null {STATUS}>&-; \
         {{ \\command echo \"$?\" >&{STATUS}; }} 2>&-\n"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a shell of the host prints when it gets these steps, with the statuses in between.
    fn shell(program: &str, steps: &[&str]) -> Option<String> {
        if !Path::new(program).exists() {
            return None;
        }
        let mut shell = Command::new(program)
            .arg0("sh")
            .args(["-c", &format!("exec {STATUS}>&1 2>&1; exec \"$0\" -s"), program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let script: String = steps.iter().map(|step| script_line(step)).collect();
        let mut input = shell.stdin.take().unwrap();
        let _ = input.write_all(script.as_bytes());
        drop(input);
        let output = shell.wait_with_output().unwrap();
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn steps_share_the_shell_and_survive_their_errors() {
        for program in ["/bin/dash", "/bin/bash"] {
            let steps = [
                "x='it'\\''s'; f() { echo \"$x\"; }; cd /usr",
                "f; pwd",
                "if",
                ". /nonexistent/file",
                "cat <<E\nheredoc $x\nE",
                "cat; read line || echo no input",
                "(exit 3)",
            ];
            let Some(out) = shell(program, &steps) else { continue };
            let lines: Vec<&str> = out
                .lines()
                .filter(|line| !line.contains("rror") && !line.contains("ile"))
                .collect();
            let dot = if program == "/bin/dash" { "2" } else { "1" };
            assert_eq!(
                lines,
                ["0", "it's", "/usr", "0", "2", dot, "heredoc it's", "0", "no input", "0", "3"],
                "{program}: {out}"
            );
        }
    }

    #[test]
    fn programs_of_a_step_have_no_pipe_of_ours() {
        for program in ["/bin/dash", "/bin/bash"] {
            let steps = ["ls -l /proc/self/fd | cut -d' ' -f2- ; echo x >&8"];
            let Some(out) = shell(program, &steps) else { continue };
            // Its own standard output is a pipe here, and so is what the test's caller leaks: the
            // script's pipe would be number 0, the status pipe number 8.
            assert!(out.contains(" 0 -> /dev/null"), "{program}: {out}");
            assert!(!out.contains(" 8 -> "), "{program}: {out}");
            assert!(out.to_lowercase().contains("bad file descriptor"), "{program}: {out}");
        }
    }

    #[test]
    fn a_trace_does_not_show_the_report() {
        for program in ["/bin/dash", "/bin/bash"] {
            let Some(out) = shell(program, &["set -x", "true"]) else { continue };
            assert!(out.contains("+ true"), "{program}: {out}");
            assert!(!out.contains("echo"), "{program}: {out}");
        }
    }
}
