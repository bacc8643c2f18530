//! The program on a real terminal, and what a person would see on it at the end.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use nix::sys::termios::{self, Termios};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rexpect::session::{PtySession, spawn_command};

use super::{Lab, Token, tokens};

/// A child on a terminal of its own.
pub struct Pty {
    pub session: PtySession,
    pub pid: u32,
    _token: Vec<Token>,
}

impl Pty {
    /// Starts a command that boots a machine, on a terminal of this many columns and rows.
    pub fn start(lab: &Lab, args: &[&str], size: (u16, u16)) -> Self {
        Self::of(lab, super::LAB, args, size)
    }

    /// The same for another program, whose child the lab is.
    pub fn of(lab: &Lab, program: &str, args: &[&str], size: (u16, u16)) -> Self {
        let token = tokens(1);
        let mut command = Command::new(program);
        command.args(args);
        lab.settle(&mut command);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let session = spawn_command(command, Some(60_000)).unwrap();
        let pid = session_on(&session.process().get_file_handle().unwrap());
        lab.adopt(pid);
        let pty = Self { session, pid, _token: token };
        pty.resize(size);
        pty
    }

    /// Changes the terminal's size, as a window manager does.
    pub fn resize(&self, (columns, rows): (u16, u16)) {
        nix::ioctl_write_ptr_bad!(set_window, libc::TIOCSWINSZ, libc::winsize);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = self.session.process().get_file_handle().unwrap();
        // SAFETY: TIOCSWINSZ reads the structure that it is given (ioctl_tty(2)).
        unsafe { set_window(terminal.as_raw_fd(), &raw const size) }.unwrap();
    }

    /// The terminal's settings.
    pub fn settings(&self) -> Termios {
        termios::tcgetattr(self.session.process().get_file_handle().unwrap()).unwrap()
    }

    /// Waits for a text; what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.session.exp_string(text).unwrap_or_else(|e| panic!("no {text:?}: {e}"))
    }

    #[track_caller]
    pub fn line(&mut self, line: &str) {
        self.session.send_line(line).unwrap();
    }

    /// Everything up to the end, and the exit code. Takes the terminal away with it: rexpect's reader
    /// spins on a terminal without a far end, and keeps an error for each turn, until it is dropped.
    #[track_caller]
    pub fn end(mut self) -> (String, i32) {
        let rest = self.session.exp_eof().unwrap_or_else(|e| panic!("no end: {e}"));
        match waitpid(Pid::from_raw(self.pid.cast_signed()), None).unwrap() {
            // rexpect takes bytes for characters; what was written is UTF-8.
            WaitStatus::Exited(_, code) => {
                let bytes: Vec<u8> = rest.chars().map(|c| c as u8).collect();
                (String::from_utf8_lossy(&bytes).into_owned(), code)
            }
            other => panic!("{other:?} after {rest:?}"),
        }
    }

    /// Waits until this many machines run below it.
    #[track_caller]
    pub fn machines(&self, count: usize) -> Vec<super::Process> {
        for _ in 0..3000 {
            let machines = super::machines_of(self.pid);
            if machines.len() == count {
                return machines;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not {count}: {:#?}", super::of_session(self.pid));
    }
}

/// The session that has this terminal: the child's, once it has got so far.
fn session_on(terminal: &std::fs::File) -> u32 {
    for _ in 0..1000 {
        if let Ok(session) = termios::tcgetsid(terminal) {
            return session.as_raw().unsigned_abs();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the child never took its terminal");
}

/// What a terminal shows after some bytes: as much of ECMA-48 as progress displays use. What it
/// does not know fails the test, so that nothing is overlooked.
#[derive(Default)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// The lines that are left in the end, without blanks at their ends.
    pub fn of(text: &str) -> Vec<String> {
        let mut screen = Self::default();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['), "an unknown sequence in {text:?}");
                    let parameters: String =
                        rest.clone().take_while(|c| !c.is_ascii_alphabetic()).collect();
                    let end = rest.nth(parameters.chars().count()).unwrap();
                    screen.control(&parameters, end);
                }
                c => screen.put(c),
            }
        }
        let line = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_string();
        screen.lines.iter().map(line).collect()
    }

    fn control(&mut self, parameters: &str, end: char) {
        let count = parameters.parse().unwrap_or(1);
        match (parameters, end) {
            (_, 'm' | 'h' | 'l') => {}
            (_, 'A') => self.row = self.row.saturating_sub(count),
            (_, 'B') => self.row += count,
            (_, 'C') => self.column += count,
            (_, 'D') => self.column = self.column.saturating_sub(count),
            ("" | "0", 'K') => self.cut(),
            ("2", 'K') => self.line().clear(),
            ("" | "0", 'J') => {
                self.cut();
                self.lines.truncate(self.row + 1);
            }
            other => panic!("an unknown sequence: {other:?}"),
        }
    }

    fn cut(&mut self) {
        let column = self.column;
        self.line().truncate(column);
    }

    fn line(&mut self) -> &mut Vec<char> {
        if self.lines.len() <= self.row {
            self.lines.resize(self.row + 1, Vec::new());
        }
        &mut self.lines[self.row]
    }

    fn put(&mut self, c: char) {
        let column = self.column;
        let line = self.line();
        if line.len() <= column {
            line.resize(column + 1, ' ');
        }
        line[column] = c;
        self.column += 1;
    }
}
