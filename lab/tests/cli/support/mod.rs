//! What every test stands on: a project that nobody else sees, the program run in it, and the proof
//! that nothing of it is left.

mod host;
mod processes;
mod pty;
mod ran;
mod tokens;

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use host::{cache, lab_for, lab_for_built, repository, skip};
pub use processes::{Process, alive, machines_of, of_session};
pub use pty::{Pty, Screen};
pub use ran::Ran;
pub use tokens::{Token, tokens};

/// The program under test.
pub const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// Longer than anything takes here: a child that is still there then has failed the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A project, a home and a folder for temporary files, all gone at the end, and checked before.
pub struct Lab {
    folder: TempDir,
    env: Vec<(String, String)>,
    program: PathBuf,
    /// Session of each child, which its descendants share.
    sessions: RefCell<Vec<u32>>,
}

/// A child under way.
pub struct Running {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
    args: Vec<String>,
    patience: Duration,
    _token: Option<Vec<Token>>,
}

impl Lab {
    /// An empty project: a lab.toml without a word.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("labtest-").tempdir().unwrap();
        for name in ["project", "home", "tmp", "out"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let lab =
            Self { folder, env: Vec::new(), program: LAB.into(), sessions: RefCell::default() };
        lab.write("lab.toml", "");
        lab
    }

    /// With the cases and the lab.toml of this repository.
    pub fn of_repository() -> Self {
        let lab = Self::new();
        for name in ["cases", "patches", "lab.toml"] {
            let status = Command::new("cp")
                .arg("-a")
                .arg(repository().join(name))
                .arg(lab.project())
                .status()
                .unwrap();
            assert!(status.success());
        }
        lab
    }

    /// Another variable in the environment of its children.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Another copy of the program.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// A path in the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.project().join(name)
    }

    /// The children's TMPDIR.
    pub fn tmp(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// The folder that holds everything of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Replaces a text that must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} lacks {from:?}:\n{text}");
        self.write(name, &text.replace(from, to));
    }

    /// A case with a summary of its own.
    pub fn case(&self, name: &str, rest: &str) {
        self.write(&format!("cases/{name}/case.toml"), &format!("summary = \"a test\"\n{rest}"));
    }

    /// Files below the project whose names end so, relative to it, sorted.
    pub fn files(&self, end: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.project()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(end) {
                    let name = path.strip_prefix(self.project()).unwrap();
                    found.push(name.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// The command line as a command with this test's environment.
    pub fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args.iter().map(AsRef::as_ref));
        self.settle(&mut command);
        command
    }

    /// Gives any program this test's folders and environment.
    pub fn settle(&self, command: &mut Command) {
        for (name, _) in std::env::vars() {
            let ours = ["LAB_", "CARGO", "RUST", "XDG_", "CLICOLOR"];
            if ours.iter().any(|start| name.starts_with(start)) || name == "LD_LIBRARY_PATH" {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.project())
            .env("HOME", self.folder.path().join("home"))
            .env("TMPDIR", self.tmp())
            .env("LAB_CACHE", cache())
            .env("NO_COLOR", "1")
            .env("TERM", "dumb")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    /// Runs a command that boots nothing.
    pub fn lab<S: AsRef<str>>(&self, args: &[S]) -> Ran {
        self.spawn(args, None, Stdio::null()).wait()
    }

    /// Runs a command that boots machines: one at a time, or two where it has several.
    pub fn boot<S: AsRef<str>>(&self, args: &[S]) -> Ran {
        self.start(args).wait()
    }

    /// Runs a command with these lines on its standard input.
    pub fn answer<S: AsRef<str>>(&self, args: &[S], lines: &str) -> Ran {
        let path = self.folder.path().join("out/answers");
        fs::write(&path, lines).unwrap();
        self.spawn(args, None, fs::File::open(path).unwrap().into()).wait()
    }

    /// Starts a command that boots machines.
    pub fn start<S: AsRef<str>>(&self, args: &[S]) -> Running {
        self.spawn(args, Some(tokens(1)), Stdio::null())
    }

    /// Starts a command that boots two machines at once.
    pub fn start_two<S: AsRef<str>>(&self, args: &[S]) -> Running {
        self.spawn(args, Some(tokens(2)), Stdio::null())
    }

    fn spawn<S: AsRef<str>>(&self, args: &[S], token: Option<Vec<Token>>, input: Stdio) -> Running {
        self.launch(self.command(args), token, input)
    }

    /// Starts any command as this test's child, in a session of its own.
    pub fn launch(&self, mut command: Command, token: Option<Vec<Token>>, input: Stdio) -> Running {
        let number = self.sessions.borrow().len();
        let file = |end: &str| self.folder.path().join(format!("out/{number}.{end}"));
        let (out, err) = (file("out"), file("err"));
        command
            .stdin(input)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap());
        // SAFETY: setsid(2) is async-signal-safe and nothing is allocated.
        unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
        let child = command.spawn().unwrap();
        self.adopt(child.id());
        let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        Running { child, out, err, args, patience: PATIENCE, _token: token }
    }

    /// Remembers a session whose processes must be gone at the end.
    pub fn adopt(&self, session: u32) {
        self.sessions.borrow_mut().push(session);
    }

    /// Asserts that no process and no temporary file of this test is left.
    pub fn nothing_is_left(&self) {
        let mut left: Vec<String> = Vec::new();
        for session in self.sessions.borrow().iter() {
            left.extend(of_session(*session).iter().map(ToString::to_string));
        }
        left.extend(processes::with_words(&self.folder.path().to_string_lossy()));
        left.extend(fs::read_dir(self.tmp()).unwrap().flatten().map(|e| format!("{:?}", e.path())));
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.nothing_is_left();
        }
    }
}

impl Running {
    /// Waits longer for it than for others.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Its errors so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Its output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Waits until standard output has this text.
    pub fn until(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.stdout().contains(text) {
            let ended = self.child.try_wait().unwrap();
            let late = begun.elapsed() > self.patience;
            if ended.is_some() || late {
                let errors = fs::read_to_string(&self.err).unwrap();
                panic!("no {text:?} from {:?}:\n{}\n{errors}", self.args, self.stdout());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > self.patience {
                let _ = self.child.kill();
                panic!("{:?} never ended:\n{}", self.args, self.stdout());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ran {
            took: begun.elapsed(),
            status,
            stdout: self.stdout(),
            stderr: fs::read_to_string(&self.err).unwrap(),
            args: std::mem::take(&mut self.args),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after a failed assertion is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
