//! The host's processes, as far as they come from a test: found by session, by descent and by the
//! words of their command line and environment.

use std::collections::BTreeMap;
use std::fs;

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    session: u32,
    pub name: String,
    /// It ended, and its parent has yet to hear of it.
    zombie: bool,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (child of {})", self.pid, self.name, self.parent)
    }
}

/// The processes of a session and all that descend from them, zombies aside. A UML process starts
/// a session of its own below the lab's helper, and dies with it: its pid namespace is the helper's.
pub fn of_session(session: u32) -> Vec<Process> {
    let all = all();
    let belongs = |process: &Process| {
        let mut at = Some(process);
        while let Some(one) = at {
            if one.session == session {
                return true;
            }
            at = all.get(&one.parent);
        }
        false
    };
    all.values().filter(|p| !p.zombie && belongs(p)).cloned().collect()
}

/// The machines of a session: the UML kernels' own processes, not those that they keep for the
/// guest's programs.
pub fn machines_of(session: u32) -> Vec<Process> {
    let all = of_session(session);
    let is_machine = |p: &&Process| {
        let parent = all.iter().find(|other| other.pid == p.parent);
        p.name == "linux" && parent.is_none_or(|parent| parent.name != "linux")
    };
    all.iter().filter(is_machine).cloned().collect()
}

/// Whether the process is there and no zombie.
pub fn alive(pid: u32) -> bool {
    read(pid).is_some_and(|process| !process.zombie)
}

/// The processes, other than this one and its own, with this text in command line or environment.
pub fn with_words(text: &str) -> Vec<String> {
    let has = |process: &&Process| {
        ["cmdline", "environ"].iter().any(|file| {
            fs::read(format!("/proc/{}/{file}", process.pid))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        })
    };
    let all = all();
    all.values().filter(|p| !p.zombie).filter(has).map(ToString::to_string).collect()
}

fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

/// See proc_pid_stat(5): the name stands in parentheses and may hold any character.
fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat[end + 1..].split_whitespace().collect();
    Some(Process {
        pid,
        parent: fields[1].parse().ok()?,
        session: fields[3].parse().ok()?,
        name: stat[start + 1..end].to_string(),
        zombie: matches!(fields[0], "Z" | "X"),
    })
}
