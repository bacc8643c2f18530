//! Faults of the lab itself: a signal in each of its phases. SIGINT and SIGTERM end the run and are
//! reported, exit code 130; after SIGKILL nothing can be said, and nothing may live on.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::guest::{GUEST, Guest, INIT_SLEEPS};
use crate::machine::SLEEPS;
use crate::row::Seen;
use crate::scene::{Scene, exit, seen};
use crate::support::{Running, alive, machines_of, of_session, tokens};

/// What the lab is at when the signal comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It fetches a kernel, from a mirror that never answers.
    Fetch,
    /// The machine boots: its init never says hello.
    Boot,
    /// A step runs.
    Step,
    /// The last step has ended, and PID 1 waits for a process that does not die.
    PowerOff,
    /// The machine is gone, and the lab writes what it saw, into a pipe that nobody reads.
    Results,
}

/// How long all that the lab started may live on after the signal.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// How long a phase may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A read from a suspended device does not end, whatever is sent to the reader: PID 1 gives it two
/// seconds after the last step.
const POWERS_OFF_SLOWLY: Guest = Guest {
    needs: "programs = [\"dmsetup\"]\nmodules = [\"dm_mod\"]",
    machine: "disks = [{ name = \"a\", size = \"1M\" }]",
    fault: "dmsetup create --noudevsync d --table '0 2048 linear /dev/lab/a 0'; dmsetup mknodes; \
            dmsetup suspend --noudevsync d; \
            dd if=/dev/mapper/d of=/dev/null iflag=direct count=1 2> /dev/null & \
            until grep -q '^State:.D' /proc/$!/status; do sleep 0.05; done",
    twin: "dmsetup create --noudevsync d --table '0 2048 linear /dev/lab/a 0'; dmsetup mknodes; \
           dd if=/dev/mapper/d of=/dev/null iflag=direct count=1 2> /dev/null & wait",
    ..GUEST
};

/// Brings the lab into the phase, sends the signal, and waits for its end.
pub fn run(scene: &Scene, phase: Phase, signal: Signal) -> Seen {
    let guest = match phase {
        Phase::Boot => Guest { machine: "", ..INIT_SLEEPS },
        Phase::PowerOff => POWERS_OFF_SLOWLY,
        Phase::Fetch | Phase::Step | Phase::Results => SLEEPS,
    };
    scene.case_with_twin(&guest.text(true), &guest.text(false));
    if phase == Phase::Results {
        // What was seen before the signal is judged: without this it would rightly pass.
        std::fs::remove_dir_all(scene.lab.path("cases/fault/snapshots")).unwrap();
    }
    let mut stage = Stage::begin(scene, phase);
    let session = stage.running.child.id();
    let processes = of_session(session);
    kill(Pid::from_raw(session.cast_signed()), signal).unwrap();
    let sent = Instant::now();
    if let (Some(pipe), false) = (&stage.pipe, signal == Signal::SIGKILL) {
        // The signal has come; now somebody reads.
        std::thread::sleep(Duration::from_millis(100));
        std::fs::read(pipe).unwrap();
    }
    let status = stage.running.child.wait().unwrap();
    while processes.iter().any(|process| alive(process.pid)) {
        assert!(sent.elapsed() < LAST_MOMENTS, "{:#?}", of_session(session));
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(pipe) = &stage.pipe {
        std::fs::remove_file(pipe).unwrap();
    }
    if signal != Signal::SIGKILL {
        let ran = stage.running.wait();
        // A run that was over when the signal came waits for review as any other.
        assert_eq!(scene.lab.files(".snap.new").is_empty(), phase != Phase::Results, "{ran}");
        return seen(&ran);
    }
    assert!(scene.lab.files(".snap.new").is_empty());
    let state = state(scene);
    if state == "interrupted" {
        scene.lab.lab(&["runs", "log"]).code(0).out("the lab ended before the run did");
    }
    let seen = Seen { code: state, exit: exit(status), says: String::new() };
    drop(stage);
    // What the killed lab could not clear away, the next one does; and it is none the worse for it.
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    scene.run().code(0);
    seen
}

/// Where the last run stands, in the words of `lab runs`.
fn state(scene: &Scene) -> String {
    let listed = scene.lab.lab(&["runs", "list", "--json"]).value();
    listed[0]["state"].as_str().unwrap_or("none").to_string()
}

/// A lab in one of its phases.
struct Stage {
    running: Running,
    /// The pipe that keeps it there.
    pipe: Option<PathBuf>,
    /// The mirror that does.
    _mirror: Option<(TcpListener, TcpStream)>,
}

impl Stage {
    fn begin(scene: &Scene, phase: Phase) -> Self {
        if phase == Phase::Fetch {
            return Self::fetching(scene);
        }
        let mut running = scene.lab.start(&scene.args());
        let mut pipe = None;
        match phase {
            Phase::Fetch => unreachable!("it has been seen to"),
            Phase::Boot => {
                let session = running.child.id();
                wait_until(|| machines_of(session).len() == 1);
                assert!(!running.stdout().contains("\"event\":\"run-ready\""));
            }
            Phase::Step => running.until("\"event\":\"step-started\",\"number\":0,\"step\":1"),
            Phase::PowerOff => running.until("\"event\":\"step-ended\",\"number\":0,\"step\":2"),
            Phase::Results => {
                running.until("\"event\":\"step-started\",\"number\":0,\"step\":0");
                let folder = run_folder(scene);
                // Written last but one, after the transcript.
                let path = folder.join("evidence.json");
                mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
                wait_until(|| folder.join("transcript").exists());
                std::thread::sleep(Duration::from_millis(50));
                assert!(!folder.join("result.json").exists());
                pipe = Some(path);
            }
        }
        Self { running, pipe, _mirror: None }
    }

    fn fetching(scene: &Scene) -> Self {
        let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
        mirror.set_nonblocking(true).unwrap();
        let address = mirror.local_addr().unwrap();
        let toml = format!("[debian]\nmirror = \"http://{address}/debian\"\n");
        scene.lab.write("lab.toml", &toml);
        let mut command = scene.lab.command(&scene.args());
        command.env("LAB_CACHE", scene.lab.folder().join("cache"));
        let running = scene.lab.launch(command, Some(tokens(1)), Stdio::null());
        let mut asked = None;
        wait_until(|| {
            asked = mirror.accept().ok();
            asked.is_some()
        });
        let (stream, _) = asked.expect("it was waited for");
        Self { running, pipe: None, _mirror: Some((mirror, stream)) }
    }
}

/// The folder of the only run.
fn run_folder(scene: &Scene) -> PathBuf {
    let entries = std::fs::read_dir(scene.lab.path(".lab/runs")).unwrap().flatten();
    let mut folders = entries.map(|entry| entry.path()).filter(|path| path.join("lock").exists());
    folders.next().expect("a run is under way")
}

fn wait_until(mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < PATIENCE, "it never came to it");
        std::thread::sleep(Duration::from_millis(5));
    }
}
