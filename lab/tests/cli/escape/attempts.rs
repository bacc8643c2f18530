//! What a machine that is no kernel any more tries: system calls made by its own process, behind the
//! walls. This test binary is the program; see [`run_if_asked`].

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;

use nix::libc::{self, c_long};
use serde::{Deserialize, Serialize};

/// The first argument that makes this test binary the program.
pub const ATTEMPTS: &str = "__attempts";

/// What the host has, and the program is after.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ground {
    /// A folder of the host that nobody declared.
    pub outside: PathBuf,
    /// A folder that was declared, to be read.
    pub share: PathBuf,
    /// A folder that is the machine's own.
    pub own: PathBuf,
    /// A process of the same user for each way to harm one.
    pub victims: Vec<i32>,
    /// A listening TCP port on the loopback device, and a UDP one.
    pub ports: (u16, u16),
    /// Name of a listening abstract socket, and of a POSIX message queue; a datagram socket has the
    /// same with `-d`.
    pub abstract_name: String,
    /// A System V shared memory segment.
    pub segment: i32,
    /// A file in /dev/shm.
    pub shared: PathBuf,
    /// A key of the same user.
    pub key: i32,
    /// The name that the host has already.
    pub hostname: String,
}

type Attempt = fn(&Ground) -> io::Result<()>;

/// One thing that is tried.
pub struct Row {
    pub name: &'static str,
    /// Only root can do it even without walls.
    pub root: bool,
    /// The version of Landlock from which on isolation `landlock` refuses it: 0 where the filter of
    /// system calls does, or any version; [`NEVER`] where it stays possible.
    pub refused_from: u32,
    pub attempt: Attempt,
}

/// See [`Row::refused_from`].
pub const NEVER: u32 = u32::MAX;

const fn row(name: &'static str, attempt: Attempt) -> Row {
    Row { name, root: false, refused_from: 0, attempt }
}

const fn of_root(name: &'static str, attempt: Attempt) -> Row {
    Row { name, root: true, refused_from: 0, attempt }
}

const fn weak(refused_from: u32, name: &'static str, attempt: Attempt) -> Row {
    Row { name, root: false, refused_from, attempt }
}

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("read a file", |g| fs::read(g.outside.join("secret")).map(drop)),
    row("list a folder", |g| fs::read_dir(&g.outside).map(drop)),
    row("append to a file", |g| append(&g.outside.join("secret"))),
    row("create a file", |g| File::create_new(g.outside.join("created")).map(drop)),
    row("truncate a file by name", |g| call(libc::SYS_truncate, &[path(&g.outside.join("truncated")), 0])),
    row("truncate a file that is opened for reading", |g| {
        call(libc::SYS_open, &[path(&g.outside.join("emptied")), i64::from(libc::O_TRUNC), 0])
    }),
    row("remove a file", |g| fs::remove_file(g.outside.join("removed"))),
    row("rename a file", |g| fs::rename(g.outside.join("renamed"), g.outside.join("renamed-to"))),
    row("link a file into the own folder", |g| fs::hard_link(g.outside.join("secret"), g.own.join("linked"))),
    row("make a folder", |g| fs::create_dir(g.outside.join("folder"))),
    row("make a symbolic link", |g| std::os::unix::fs::symlink("/", g.outside.join("symlink"))),
    row("make a FIFO", |g| call(libc::SYS_mknod, &[path(&g.outside.join("fifo")), i64::from(libc::S_IFIFO | 0o600), 0])),
    row("chmod", |g| fs::set_permissions(g.outside.join("moded"), std::os::unix::fs::PermissionsExt::from_mode(0o777))),
    row("chmod by descriptor, a file of a share", |g| {
        let file = File::open(g.share.join("shared"))?;
        call(libc::SYS_fchmod, &[file.as_raw_fd().into(), 0o777])
    }),
    of_root("chown", |g| std::os::unix::fs::chown(g.outside.join("owned"), Some(12345), None)),
    row("set the times of a file", |g| call(libc::SYS_utime, &[path(&g.outside.join("timed")), 0])),
    row("set an extended attribute", |g| {
        let (name, value) = (c"user.lab".as_ptr() as i64, c"x".as_ptr() as i64);
        call(libc::SYS_setxattr, &[path(&g.outside.join("attributed")), name, value, 1, 0])
    }),
    row("set the flags of a file of a share (chattr)", |g| {
        let file = File::open(g.share.join("shared"))?;
        let nodump: libc::c_int = 0x40;
        call(libc::SYS_ioctl, &[file.as_raw_fd().into(), 0x4008_6602, &raw const nodump as i64])
    }),
    row("write a file of a share", |g| append(&g.share.join("shared"))),
    row("read through a share's symbolic link", |g| fs::read(g.share.join("link")).map(drop)),
    row("read through ..", |g| {
        let up = "../".repeat(40);
        let below = g.outside.strip_prefix("/").unwrap_or(&g.outside);
        fs::read(PathBuf::from(up).join(below).join("secret")).map(drop)
    }),
    row("read through the supervisor's root", |g| {
        // SAFETY: getppid(2) cannot fail.
        let root = format!("/proc/{}/root{}", unsafe { libc::getppid() }, g.outside.display());
        fs::read(PathBuf::from(root).join("secret")).map(drop)
    }),
    row("watch a folder", |g| {
        let fd = number(libc::SYS_inotify_init, &[])?;
        call(libc::SYS_inotify_add_watch, &[fd, path(&g.outside), libc::IN_ALL_EVENTS.into()])
    }),
    weak(NEVER, "look at a file's size and times", |g| fs::metadata(g.outside.join("secret")).map(drop)),
    weak(NEVER, "read where a symbolic link points", |g| fs::read_link(g.outside.join("pointer")).map(drop)),
    row("open a device that was not declared", |_| File::open("/dev/zero").map(drop)),
    of_root("make a device node in the own folder", |g| {
        let device = libc::makedev(1, 5) as i64;
        call(libc::SYS_mknod, &[path(&g.own.join("zero")), i64::from(libc::S_IFCHR | 0o600), device])
    }),
    row("open a file in /dev/shm", |g| File::open(&g.shared).map(drop)),
    of_root("open a setting of the host's kernel for writing", |_| {
        OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").map(drop)
    }),

    row("read a process' environment", |g| fs::read(format!("/proc/{}/environ", g.victims[0])).map(drop)),
    row("read a process' memory", |g| {
        let (mut buffer, at) = ([0_u8; 1], 0x1000_usize);
        let own = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 1 };
        let other = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: 1 };
        let pid = i64::from(g.victims[0]);
        let done = call(libc::SYS_process_vm_readv, &[pid, &raw const own as i64, 1, &raw const other as i64, 1, 0]);
        // Nothing lies there: that it was looked at is what matters.
        match done { Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Ok(()), other => other }
    }),
    row("trace a process", |g| trace(g.victims[1])),
    // SAFETY: getppid(2) cannot fail.
    row("trace the supervisor", |_| trace(unsafe { libc::getppid() })),
    row("take a descriptor from a process", |g| {
        let pidfd = number(libc::SYS_pidfd_open, &[g.victims[0].into(), 0])?;
        call(libc::SYS_pidfd_getfd, &[pidfd, 0, 0])
    }),
    row("change the limits of a process", |g| {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        call(libc::SYS_prlimit64, &[g.victims[0].into(), libc::RLIMIT_NOFILE.into(), &raw const limit as i64, 0])
    }),
    row("change the priority of a process", |g| call(libc::SYS_setpriority, &[libc::PRIO_PROCESS.into(), g.victims[0].into(), 19])),
    row("bind a process to a processor", |g| {
        let mask = 1_u64;
        call(libc::SYS_sched_setaffinity, &[g.victims[0].into(), 8, &raw const mask as i64])
    }),
    weak(6, "kill", |g| call(libc::SYS_kill, &[g.victims[2].into(), libc::SIGTERM.into()])),
    weak(6, "tgkill", |g| {
        let pid = g.victims[3].into();
        call(libc::SYS_tgkill, &[pid, pid, libc::SIGTERM.into()])
    }),
    row("pidfd_send_signal", |g| {
        let pidfd = number(libc::SYS_pidfd_open, &[g.victims[4].into(), 0])?;
        call(libc::SYS_pidfd_send_signal, &[pidfd, libc::SIGTERM.into(), 0, 0])
    }),
    // With signal 0: its twin, without walls, would end this host's session.
    row("signal all processes", |_| call(libc::SYS_kill, &[-1, 0])),

    row("connect over TCP", |g| TcpStream::connect(("127.0.0.1", g.ports.0)).map(drop)),
    row("send over UDP", |g| UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", ("127.0.0.1", g.ports.1)).map(drop)),
    row("listen on TCP", |_| std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
    row("ask the kernel by netlink", |_| call(libc::SYS_socket, &[libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0])),
    row("connect to an abstract socket", |g| {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(&g.abstract_name)?).map(drop)
    }),
    weak(6, "send to an abstract socket", |g| {
        let to = SocketAddr::from_abstract_name(format!("{}-d", g.abstract_name))?;
        UnixDatagram::unbound()?.send_to_addr(b"x", &to).map(drop)
    }),
    row("connect to a socket in a folder", |g| UnixStream::connect(g.outside.join("stream")).map(drop)),
    weak(9, "send to a socket in a folder", |g| UnixDatagram::unbound()?.send_to(b"x", g.outside.join("datagram")).map(drop)),
    row("attach System V shared memory", |g| call(libc::SYS_shmat, &[g.segment.into(), 0, libc::SHM_RDONLY.into()])),
    row("open a POSIX message queue", |g| {
        let name = CString::new(g.abstract_name.as_str()).expect("no NUL");
        call(libc::SYS_mq_open, &[name.as_ptr() as i64, libc::O_RDWR.into(), 0, 0])
    }),
    row("look at a key", |g| call(libc::SYS_keyctl, &[6, g.key.into(), 0, 0])),

    row("make a user namespace", |_| in_a_child(|| call(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()]))),
    of_root("make a mount namespace", |_| in_a_child(|| call(libc::SYS_unshare, &[libc::CLONE_NEWNS.into()]))),
    of_root("enter the supervisor's namespaces", |_| in_a_child(|| {
        // SAFETY: getppid(2) cannot fail; its parent is the program, whose own parent is meant.
        let parent = fs::read_to_string(format!("/proc/{}/stat", unsafe { libc::getppid() }))?;
        let parent = parent.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).unwrap_or("1").to_string();
        let namespace = File::open(format!("/proc/{parent}/ns/mnt"))?;
        call(libc::SYS_setns, &[namespace.as_raw_fd().into(), 0])
    })),
    of_root("mount", |g| {
        let at = path(&g.own);
        call(libc::SYS_mount, &[c"x".as_ptr() as i64, at, c"tmpfs".as_ptr() as i64, 0, 0])?;
        call(libc::SYS_umount2, &[at, 0])
    }),
    of_root("change the root", |_| in_a_child(|| call(libc::SYS_chroot, &[c".".as_ptr() as i64]))),
    of_root("become another user", |_| in_a_child(|| call(libc::SYS_setuid, &[12345]))),
    of_root("load a BPF map", |_| {
        // BPF_MAP_CREATE of an array with one element of four bytes (bpf(2)).
        let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        call(libc::SYS_bpf, &[0, attributes.as_ptr() as i64, 48])
    }),
    of_root("make a userfaultfd", |_| call(libc::SYS_userfaultfd, &[0])),
    of_root("count the host's events", |_| {
        // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, of all on processor 0 (perf_event_open(2)).
        let attributes = [1_u32, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        call(libc::SYS_perf_event_open, &[attributes.as_ptr() as i64, -1, 0, -1, 0])
    }),
    row("make an io_uring", |_| {
        let parameters = [0_u32; 30];
        call(libc::SYS_io_uring_setup, &[1, parameters.as_ptr() as i64])
    }),
    of_root("read the host's kernel log", |_| call(libc::SYS_syslog, &[10, 0, 0])),
    of_root("name the host", |g| call(libc::SYS_sethostname, &[g.hostname.as_ptr() as i64, g.hostname.len() as i64])),
    row("look at the host's clock discipline", |_| {
        let nothing = [0_u64; 32];
        call(libc::SYS_adjtimex, &[nothing.as_ptr() as i64])
    }),
    row("take a gigabyte of private memory", |_| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        number(libc::SYS_mmap, &[0, 1 << 30, prot.into(), flags.into(), -1, 0]).map(drop)
    }),
    row("make a file larger than declared", |g| {
        let file = File::create_new(g.own.join("large"))?;
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 512 << 20)
    }),
];

/// Makes the attempts, if this process was started for that; must be called before `main`.
pub fn run_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().is_none_or(|first| first != ATTEMPTS) {
        return;
    }
    let ground: Ground = serde_json::from_str(&args.next().expect("a ground")).expect("is JSON");
    let mut out = io::stdout();
    for row in TABLE {
        let line = match (row.attempt)(&ground) {
            Ok(()) => format!("{}\tdone\n", row.name),
            Err(error) => format!("{}\trefused: {error}\n", row.name),
        };
        let _ = out.write_all(line.as_bytes());
    }
    std::process::exit(0);
}

/// A system call with integers, or pointers as such.
fn number(call: c_long, arguments: &[i64]) -> io::Result<i64> {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    // SAFETY: each caller passes what the call's manual page wants, and keeps it alive.
    let done = unsafe {
        libc::syscall(
            call,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

fn call(call: c_long, arguments: &[i64]) -> io::Result<()> {
    number(call, arguments).map(drop)
}

/// A path as an argument; it lives as long as the process.
fn path(path: &std::path::Path) -> i64 {
    let text = CString::new(path.to_string_lossy().into_owned()).expect("no NUL");
    text.into_raw() as i64
}

fn append(path: &std::path::Path) -> io::Result<()> {
    OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path)?.write_all(b"forged")
}

fn trace(pid: i32) -> io::Result<()> {
    const SEIZE: i64 = 0x4206;
    const DETACH: i64 = 17;
    call(libc::SYS_ptrace, &[SEIZE, pid.into(), 0, 0])?;
    // Only what is stopped can be let go; our end lets go of it too.
    let _ = call(libc::SYS_ptrace, &[DETACH, pid.into(), 0, 0]);
    Ok(())
}

/// What would change this process for the attempts that follow.
fn in_a_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (mut end, other) = UnixStream::pair()?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            let errno = attempt().err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
            let _ = (&other).write_all(&errno.to_le_bytes());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(other);
            let mut errno = [0; 4];
            end.read_exact(&mut errno)?;
            nix::sys::wait::waitpid(child, None)?;
            match i32::from_le_bytes(errno) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}
