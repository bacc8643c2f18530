//! The `modprobe` that the kernel's request_module() and the cases call.

use nix::libc::c_int;

use crate::descriptors::{keep_standard, say_plainly};
use crate::load::{load, running_tree, unload};
use crate::trouble::{Result, Trouble};

const USAGE: &str = "usage: modprobe [-q] [-a] [--] NAME [KEY=VALUE]... | modprobe -r NAME...";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    quiet: bool,
    remove: bool,
    names: Vec<String>,
    /// Module parameters, blank-separated.
    options: String,
}

/// Does what the words after the program's name say; the exit status.
pub fn main(words: &[String]) -> c_int {
    // The kernel's helper processes start without any.
    keep_standard();
    let request = match parse(words) {
        Ok(request) => request,
        Err(trouble) => {
            say_plainly(&format!("modprobe: {trouble}\n{USAGE}\n"));
            return 1;
        }
    };
    let tree = running_tree();
    let mut status = 0;
    for name in &request.names {
        let result =
            if request.remove { unload(&tree, name) } else { load(&tree, name, &request.options) };
        if let Err(trouble) = result {
            status = 1;
            if !request.quiet {
                say_plainly(&format!("modprobe: {trouble}\n"));
            }
        }
    }
    status
}

fn parse(words: &[String]) -> Result<Request> {
    let mut request =
        Request { quiet: false, remove: false, names: Vec::new(), options: String::new() };
    let mut all = false;
    let mut rest = words.iter();
    for word in rest.by_ref() {
        match word.as_str() {
            "--" => break,
            "--quiet" => request.quiet = true,
            "--remove" => request.remove = true,
            "--all" => all = true,
            "--verbose" | "--syslog" | "--use-blacklist" => {}
            long if long.starts_with("--") => {
                return Err(Trouble(format!("option {long} is not known")));
            }
            short if short.len() > 1 && short.starts_with('-') => {
                for letter in short.chars().skip(1) {
                    match letter {
                        'q' => request.quiet = true,
                        'r' => request.remove = true,
                        'a' => all = true,
                        'v' | 's' | 'b' => {}
                        other => return Err(Trouble(format!("option -{other} is not known"))),
                    }
                }
            }
            name => request.names.push(name.to_string()),
        }
    }
    request.names.extend(rest.cloned());
    // Without -a, words after the first name are its parameters.
    if !all && !request.remove && request.names.len() > 1 {
        let options = request.names.split_off(1);
        request.options = options.join(" ");
    }
    if request.names.is_empty() {
        return Err(Trouble("which module?".into()));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Request> {
        parse(&line.split(' ').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_kernels_call_and_peoples() {
        let kernel = words("-q -- fs-overlay").unwrap();
        assert!(kernel.quiet && kernel.names == ["fs-overlay"]);
        let with = words("null_blk nr_devices=2 gb=1").unwrap();
        assert_eq!(
            (with.names, with.options),
            (vec!["null_blk".into()], "nr_devices=2 gb=1".into())
        );
        assert_eq!(words("-qa loop nbd").unwrap().names, ["loop", "nbd"]);
        let remove = words("-r loop nbd").unwrap();
        assert!(remove.remove && remove.names.len() == 2);
        assert!(words("-x loop").is_err());
        assert!(words("--nonsense loop").is_err());
        assert!(words("-q").is_err());
    }
}
