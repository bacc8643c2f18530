//! A person's terminal tied to a machine's: bytes both ways, the size, and PID 1's questions.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use lab_proto::{GuestMessage, GuestPlan, HostMessage, VERSION, Work};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::control::{Control, Incoming};
use super::{Flow, Log, Terminal, drain};
use crate::machine::{GuestView, Machine};
use crate::manifest::{Diagnostic, Result, errno_words};

/// Ctrl-D.
const END_OF_TRANSMISSION: u8 = 4;

/// How the session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Session {
    /// The shell ended with this status, and the machine after it.
    Ended(i32),
    /// PID 1 could not prepare the guest.
    Trouble(String),
    /// The machine ended otherwise; its last words.
    Died(String),
    /// The lab was asked to stop.
    Interrupted,
}

/// Columns and rows of a terminal; 80x24 where it does not say.
pub fn window(terminal: BorrowedFd<'_>) -> (u16, u16) {
    nix::ioctl_read_bad!(get_window, libc::TIOCGWINSZ, libc::winsize);
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the structure that it is given (ioctl_tty(2)).
    let got = unsafe { get_window(terminal.as_raw_fd(), &raw mut size) };
    if got.is_ok() && size.ws_col > 0 && size.ws_row > 0 {
        (size.ws_col, size.ws_row)
    } else {
        (80, 24)
    }
}

/// Puts a terminal into raw mode until dropped: Ctrl-C and all else go to the guest.
struct Raw<'a>(BorrowedFd<'a>, Option<Termios>);

impl<'a> Raw<'a> {
    fn new(terminal: BorrowedFd<'a>) -> Self {
        let before = tcgetattr(terminal).ok();
        if let Some(mut raw) = before.clone() {
            cfmakeraw(&mut raw);
            let _ = tcsetattr(terminal, SetArg::TCSADRAIN, &raw);
        }
        Self(terminal, before)
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.1 {
            let _ = tcsetattr(self.0, SetArg::TCSADRAIN, before);
        }
    }
}

/// Ties `input` and `output` to a machine that is given `plan` (a [`Work::Shell`]), until the shell
/// ends. Logs go to `folder`. `resized` is readable when the terminal's size may have changed.
///
/// # Errors
/// The logs cannot be made, or a descriptor fails.
pub fn attach(
    machine: &mut dyn Machine,
    plan: &mut dyn FnMut(&GuestView, (u16, u16)) -> GuestPlan,
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    (resized, cancel): (BorrowedFd<'_>, BorrowedFd<'_>),
    folder: &Path,
) -> Result<Session> {
    let mut control = Control::create(&folder.join("control"))?;
    let mut log = Log::create(&folder.join("kernel.log"))?;
    let mut record = Terminal::create(&folder.join("terminal"))?;
    let raw = Raw::new(input);
    let outcome = relay(
        machine,
        plan,
        (input, output),
        (resized, cancel),
        &mut control,
        &mut log,
        &mut record,
    );
    drop(raw);
    machine.kill();
    outcome.map_err(|e| Diagnostic::trouble(format!("the terminal failed: {}", errno_words(&e))))
}

fn relay(
    machine: &mut dyn Machine,
    plan: &mut dyn FnMut(&GuestView, (u16, u16)) -> GuestPlan,
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    (resized, cancel): (BorrowedFd<'_>, BorrowedFd<'_>),
    control: &mut Control,
    log: &mut Log,
    record: &mut Terminal,
) -> std::io::Result<Session> {
    let mut buffer = vec![0; 64 << 10];
    let mut to_guest: Vec<u8> = Vec::new();
    let (mut status, mut trouble, mut ended) = (None, None, None::<Instant>);
    let mut open = [true; 5]; // log, terminal, control, words, input
    let mut words = Vec::new();
    // Keys go to the shell, not to whatever the terminal's device does before PID 1 has it.
    let mut shell_is_there = false;
    let mut end_of_keys: Option<Instant> = None;
    loop {
        let channels = machine.channels();
        let more = |wanted: bool| if wanted { PollFlags::POLLOUT } else { PollFlags::empty() };
        // Keys wait in the kernel while the guest is slow to take them.
        let keys = open[4] && shell_is_there && to_guest.len() < 64 << 10;
        let polled = channels.log.poll_fd();
        let fds = [
            (polled.unwrap_or(cancel), PollFlags::POLLIN, open[0] && polled.is_some()),
            (channels.terminal.as_fd(), PollFlags::POLLIN | more(!to_guest.is_empty()), open[1]),
            (channels.control.as_fd(), PollFlags::POLLIN | more(control.wants_write()), open[2]),
            (channels.words.as_fd(), PollFlags::POLLIN, open[3]),
            (input, PollFlags::POLLIN, keys),
            (resized, PollFlags::POLLIN, true),
            (cancel, PollFlags::POLLIN, true),
            (machine.ending_fd(), PollFlags::POLLIN, ended.is_none()),
        ];
        let wanted: Vec<usize> = (0..fds.len()).filter(|&i| fds[i].2).collect();
        let mut set: Vec<_> = wanted.iter().map(|&i| PollFd::new(fds[i].0, fds[i].1)).collect();
        let again = match (end_of_keys, ended) {
            _ if ended.is_some() && open[0] && polled.is_none() => Duration::ZERO,
            (Some(_), _) => Duration::from_millis(100),
            _ => Duration::from_secs(1),
        };
        let patience = channels.log.look_every().map_or(again, |look| look.min(again));
        match poll(&mut set, PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = [false; 8];
        set.iter().zip(wanted).for_each(|(fd, i)| ready[i] = fd.any() == Some(true));

        if ready[6] {
            return Ok(Session::Interrupted);
        }
        if open[0] && (ready[0] || polled.is_none()) {
            let flow = log.read(&channels.log, &mut buffer, 1 << 20, ended.is_some())?;
            open[0] = flow == Flow::Open;
        }
        if ready[1] {
            if !to_guest.is_empty() {
                match nix::unistd::write(&channels.terminal, &to_guest) {
                    Ok(n) => drop(to_guest.drain(..n)),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(_) => to_guest.clear(),
                }
            }
            let show = |bytes: &[u8]| {
                record.feed(bytes)?;
                write_all(output, bytes)
            };
            open[1] = drain(channels.terminal.as_fd(), &mut buffer, 1 << 20, show)? == Flow::Open;
        }
        if ready[3] {
            let keep = |bytes: &[u8]| {
                words.extend_from_slice(bytes);
                Ok(())
            };
            open[3] = drain(channels.words.as_fd(), &mut buffer, 1 << 20, keep)? == Flow::Open;
        }
        if ready[4] {
            match nix::unistd::read(input, &mut buffer) {
                Ok(0) | Err(Errno::EIO) => {
                    open[4] = false;
                    end_of_keys = Some(Instant::now());
                }
                Ok(n) => to_guest.extend_from_slice(&buffer[..n]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // End of input is Ctrl-D. A shell that is just changing its terminal's mode may lose one, so
        // it is said again until the shell has ended; what then reads its input gets its end too.
        if status.is_none() && end_of_keys.is_some_and(|due| Instant::now() >= due) {
            to_guest.push(END_OF_TRANSMISSION);
            end_of_keys = Some(Instant::now() + Duration::from_millis(300));
        }
        if ready[5] {
            let mut drained = [0; 64];
            let _ = nix::unistd::read(resized, &mut drained);
            let (cols, rows) = window(input);
            if control.sent_plan() {
                control.send(&HostMessage::Resize { cols, rows });
            }
        }
        if ready[2] {
            let mut incoming = Vec::new();
            let flow = control.read(channels.control.as_fd(), &mut buffer, &mut incoming)?;
            open[2] = flow == Flow::Open;
            let view = machine.guest_view();
            for message in incoming {
                match message {
                    Incoming::Record(record) => match record.body {
                        GuestMessage::Hello { version: VERSION, .. } if !control.sent_plan() => {
                            let plan = plan(&view, window(input));
                            debug_assert!(matches!(plan.work, Work::Shell { .. }));
                            control.send_plan(plan);
                        }
                        GuestMessage::StepStarted { .. } => shell_is_there = true,
                        GuestMessage::Trouble { what } => trouble = Some(what),
                        GuestMessage::StepEnded { status: s, .. } => status = Some(s),
                        _ => {}
                    },
                    // In a shell a person does as they like, and no verdict hangs on it.
                    Incoming::Forged(_) => {}
                }
            }
        }
        if open[2] && control.wants_write() {
            control.flush(machine.channels().control.as_fd())?;
        }
        if ended.is_none() && machine.ending().is_some() {
            ended = Some(Instant::now());
        }
        if let Some(at) = ended
            && (open[..4].iter().all(|open| !open) || at.elapsed() > Duration::from_secs(2))
        {
            break;
        }
    }
    log.finish()?;
    record.finish()?;
    control.finish()?;
    Ok(match (trouble, status, machine.ending()) {
        (Some(what), ..) => Session::Trouble(what),
        (None, Some(status), _) => Session::Ended(status),
        (None, None, ending) => {
            let how = ending.map(|e| e.to_string()).unwrap_or_default();
            let own = String::from_utf8_lossy(&words);
            let last = log.tail().last().map(str::to_string);
            let last = last.or_else(|| own.lines().last().map(str::to_string));
            Session::Died(match last {
                Some(last) => format!("{how}; its last words: {last}"),
                None => how,
            })
        }
    })
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut set = [PollFd::new(fd, PollFlags::POLLOUT)];
                let _ = poll(&mut set, PollTimeout::NONE);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
