//! The machine's own process, when it is the attacker's: its system calls, behind the lab's walls.

use std::ffi::CString;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child as Program, Command, Stdio};
use std::time::{Duration, Instant};

use lab::sandbox::{
    self, Access, Calls, Child, Ending, Isolation, Launch, Limits, Reach, RootEntry,
};
use nix::libc;

use super::super::support::skip;
use super::attempts::{ATTEMPTS, Ground, TABLE};
use super::{Outcome, Outcomes, make_outside, print, state_of};

/// This test binary, started as the machine, makes the attempts: before its harness' `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        super::attempts::run_if_asked();
    }
    before_main
};

/// What the host has to lose: files, processes, sockets, memory, a key.
struct Host {
    folder: tempfile::TempDir,
    ground: Ground,
    victims: Vec<Program>,
    tcp: TcpListener,
    udp: UdpSocket,
    streams: Vec<UnixListener>,
    datagrams: Vec<UnixDatagram>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("labtest-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        make_outside(&at("outside"));
        for name in ["share", "own", "root"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("share/shared"), "to be read\n").unwrap();
        std::os::unix::fs::symlink(at("outside/secret"), at("share/link")).unwrap();

        let victim = || Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let victims: Vec<Program> = (0..5).map(|_| victim()).collect();
        let (tcp, udp) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let name = format!("labtest-{}", victims[0].id());
        let address = |name: String| SocketAddr::from_abstract_name(name).unwrap();
        let streams = vec![
            UnixListener::bind_addr(&address(name.clone())).unwrap(),
            UnixListener::bind(at("outside/stream")).unwrap(),
        ];
        let datagrams = vec![
            UnixDatagram::bind_addr(&address(format!("{name}-d"))).unwrap(),
            UnixDatagram::bind(at("outside/datagram")).unwrap(),
        ];
        streams.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        datagrams.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();

        let shared = Path::new("/dev/shm").join(&name);
        std::fs::write(&shared, "shared").unwrap();
        // SAFETY: mq_open(3) with a name, flags, a mode and no attributes.
        let queue = unsafe {
            let name = CString::new(format!("/{name}")).unwrap();
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
            libc::mq_open(name.as_ptr(), flags, 0o600, std::ptr::null::<libc::mq_attr>())
        };
        assert!(queue >= 0);
        // SAFETY: shmget(2) and add_key(2) with what their manual pages want.
        let (segment, key) = unsafe {
            let segment = libc::shmget(libc::IPC_PRIVATE, 4096, 0o600);
            let (kind, session) = (c"user".as_ptr(), -3);
            let (text, payload) = (c"lab-escape".as_ptr(), c"x".as_ptr());
            (segment, libc::syscall(libc::SYS_add_key, kind, text, payload, 1, session))
        };
        assert!(segment >= 0);
        let ground = Ground {
            outside: at("outside"),
            share: at("share"),
            own: at("own"),
            victims: victims.iter().map(|victim| victim.id().cast_signed()).collect(),
            ports: (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()),
            abstract_name: name,
            segment,
            shared,
            key: i32::try_from(key).unwrap_or(-1),
            hostname: nix::unistd::gethostname().unwrap().to_string_lossy().into_owned(),
        };
        Self { folder, ground, victims, tcp, udp, streams, datagrams }
    }

    /// Makes all attempts at this level, and says what became of them.
    fn attempt(&self, isolation: Isolation) -> Outcomes {
        let exe = std::env::current_exe().unwrap();
        let bind = |host: &Path, at: &str| RootEntry::Bind {
            host: host.to_path_buf(),
            at: at.into(),
            readonly: true,
        };
        let mut ground = self.ground.clone();
        let mut program = exe.to_string_lossy().into_owned();
        let mut root = vec![
            RootEntry::Proc("/proc".into()),
            RootEntry::Memory { at: "/own".into(), size: 64 << 20 },
            bind(&exe, "/program"),
            bind(&ground.share, "/share"),
        ];
        let to = |path: &Path, access| Reach { path: path.to_path_buf(), access };
        let mut reach = vec![
            to(&exe, Access::Run),
            to(&ground.share, Access::Read),
            to(&ground.own, Access::Own),
        ];
        for folder in ["/lib", "/lib64", "/usr/lib"].map(Path::new) {
            root.push(bind(folder, folder.to_str().unwrap()));
            reach.push(to(folder, Access::Run));
        }
        if isolation == Isolation::Full {
            program = "/program".into();
            (ground.share, ground.own) = ("/share".into(), "/own".into());
        }
        let walls = isolation != Isolation::Off;
        let launch = Launch {
            argv: vec![program, ATTEMPTS.into(), serde_json::to_string(&ground).unwrap()],
            isolation,
            root,
            mount_on: self.folder.path().join("root"),
            reach,
            calls: Calls::Machine,
            limits: Limits {
                file_size: walls.then_some(256 << 20),
                private_memory: walls.then_some(256 << 20),
                processes: None,
            },
            ..Launch::default()
        };
        let (mut words, theirs) = UnixStream::pair().unwrap();
        let mut child = Child::start(&launch, OwnedFd::from(theirs)).unwrap();
        let mut text = String::new();
        words.read_to_string(&mut text).unwrap();
        let begun = Instant::now();
        let ending = loop {
            match child.ending() {
                Some(ending) => break ending,
                None if begun.elapsed() > Duration::from_secs(10) => panic!("no end: {text}"),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        assert_eq!(ending, Ending::Exited(0), "{isolation}: {text}");
        let outcome = |line: &str| {
            let (name, what) = line.split_once('\t')?;
            let what = match what.strip_prefix("refused: ") {
                Some(why) => Outcome::Refused(why.to_string()),
                None => Outcome::Done,
            };
            Some((name.to_string(), what))
        };
        let outcomes: Outcomes = text.lines().filter_map(outcome).collect();
        assert_eq!(outcomes.len(), TABLE.len(), "{isolation}: {text}");
        outcomes
    }

    /// Who came through: of the processes those that are dead, of the sockets those that heard.
    fn harmed(&mut self) -> Vec<String> {
        // A signal is under way for a moment.
        std::thread::sleep(Duration::from_millis(50));
        let mut harmed = Vec::new();
        for (number, victim) in self.victims.iter_mut().enumerate() {
            if victim.try_wait().unwrap().is_some() {
                harmed.push(format!("victim {number}"));
            }
        }
        let mut buffer = [0; 8];
        let mut heard = |what: &str, heard: bool| {
            if heard {
                harmed.push(what.to_string());
            }
        };
        heard("TCP", self.tcp.accept().is_ok());
        heard("UDP", self.udp.recv(&mut buffer).is_ok());
        for (socket, what) in self.streams.iter().zip(["abstract stream", "stream"]) {
            heard(what, socket.accept().is_ok());
        }
        for (socket, what) in self.datagrams.iter().zip(["abstract datagram", "datagram"]) {
            heard(what, socket.recv(&mut buffer).is_ok());
        }
        harmed
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for victim in &mut self.victims {
            let _ = victim.kill();
            let _ = victim.wait();
        }
        let _ = std::fs::remove_file(&self.ground.shared);
        let queue = CString::new(format!("/{}", self.ground.abstract_name)).unwrap();
        // SAFETY: removes what this test made.
        unsafe {
            libc::mq_unlink(queue.as_ptr());
            libc::shmctl(self.ground.segment, libc::IPC_RMID, std::ptr::null_mut());
            libc::syscall(libc::SYS_keyctl, 3, self.ground.key);
        }
    }
}

#[test]
fn a_machine_that_is_the_attackers() {
    let scratch = tempfile::tempdir().unwrap();
    if let Some(why) = sandbox::probe(Isolation::Full, scratch.path()).unwrap() {
        return skip(&why);
    }
    let names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
    let root = nix::unistd::geteuid().is_root();

    // The twin first: without walls all of it works, or it would prove nothing behind them.
    let mut host = Host::new();
    let before = (state_of(&host.ground.outside), state_of(&host.ground.share));
    let off = host.attempt(Isolation::Off);
    let lacking = ["Function not implemented", "Operation not supported", "Key was rejected"];
    for row in TABLE.iter().filter(|row| root || !row.root) {
        match &off[row.name] {
            Outcome::Done => {}
            Outcome::Refused(why) if lacking.iter().any(|words| why.contains(words)) => {
                println!("not proved on this host: {}: {why}", row.name);
            }
            Outcome::Refused(why) => panic!("{} does not work without walls: {why}", row.name),
        }
    }
    let after = (state_of(&host.ground.outside), state_of(&host.ground.share));
    for name in ["secret", "truncated", "emptied", "moded", "timed"] {
        let path = host.ground.outside.join(name);
        assert_ne!(before.0[&path], after.0[&path], "{name}");
    }
    assert!(!after.0.contains_key(&host.ground.outside.join("removed")));
    assert_ne!(before.1, after.1);
    let harmed = host.harmed();
    for what in ["victim 2", "victim 3", "victim 4", "TCP", "UDP", "abstract datagram", "stream"] {
        assert!(harmed.iter().any(|h| h == what), "{what} is not in {harmed:?}");
    }
    drop(host);

    let mut host = Host::new();
    let before = (state_of(&host.ground.outside), state_of(&host.ground.share));
    let full = host.attempt(Isolation::Full);
    let untouched = |host: &Host| {
        assert_eq!(before.0, state_of(&host.ground.outside));
        assert_eq!(before.1, state_of(&host.ground.share));
    };
    untouched(&host);
    assert_eq!(host.harmed(), [] as [&str; 0]);
    let came_through: Vec<_> = full.iter().filter(|(_, how)| **how == Outcome::Done).collect();
    assert!(came_through.is_empty(), "{came_through:#?}");

    let Some(version) = sandbox::landlock_version() else {
        print("the machine's own process", &names, &[("full", &full), ("off", &off)]);
        return skip("this host's kernel has no Landlock");
    };
    let landlock = host.attempt(Isolation::Landlock);
    print(
        "the machine's own process",
        &names,
        &[("full", &full), ("landlock", &landlock), ("off", &off)],
    );
    for row in TABLE {
        let possible = version < row.refused_from;
        let seen = landlock[row.name] == Outcome::Done;
        assert_eq!(
            seen, possible,
            "{} under landlock {version}: {:?}",
            row.name, landlock[row.name]
        );
    }
    untouched(&host);
    let allowed = ["victim 2", "victim 3", "abstract datagram", "datagram"];
    let harmed = host.harmed();
    let more: Vec<_> = harmed.iter().filter(|what| !allowed.contains(&what.as_str())).collect();
    assert!(more.is_empty(), "{more:?}");
    assert!(version < 6 || harmed.iter().all(|what| what == "datagram"), "{harmed:?}");
}
