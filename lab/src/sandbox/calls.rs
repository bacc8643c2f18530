//! Which system calls of the host a machine is refused (seccomp(2)).
//!
//! A list of what is refused, not of what is allowed: a call that a kernel needs and nobody thought
//! of would make the guest behave otherwise than on real UML, and the verdict with it. What
//! UML 5.10 to 7.2 call was found with strace(1) and by reading arch/um/os-Linux and fs/hostfs.
//! Calls newer than this list are answered with ENOSYS, as by an older kernel, and so are those of
//! the x32 ABI, whose numbers are higher still.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Gt, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::Trouble;

/// Calls that libc has no name for yet (arch/x86/entry/syscalls/syscall_64.tbl).
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;
/// Of linux/fs.h.
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
/// The last call that was looked at: file_setattr(2) of Linux 6.17.
const LAST: c_long = FILE_SETATTR;

/// Refused to every machine: what changes or reads the host beyond the machine's own process and
/// files, and the parts of the host's kernel that only widen what there is to attack.
#[rustfmt::skip]
const NEVER: &[c_long] = &[
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_fsopen,
    libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_move_mount,
    libc::SYS_open_tree, OPEN_TREE_ATTR, libc::SYS_mount_setattr, libc::SYS_setns,
    libc::SYS_unshare, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // Keys, which no namespace separates wholly.
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    // The kernel's own machinery.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark, libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise,
    libc::SYS_move_pages, libc::SYS_migrate_pages, libc::SYS_syslog, libc::SYS_vhangup,
    // The host as a whole.
    libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_reboot, libc::SYS_swapon,
    libc::SYS_swapoff, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_quotactl_fd,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_iopl, libc::SYS_ioperm,
];

/// Refused too where there are no namespaces: what Landlock does not govern.
#[rustfmt::skip]
const WITHOUT_NAMESPACES: &[c_long] = &[
    // Metadata; truncate(2) since Landlock knows it only from Linux 6.2 on.
    libc::SYS_chmod, libc::SYS_fchmod, libc::SYS_fchmodat, FCHMODAT2, libc::SYS_chown,
    libc::SYS_fchown, libc::SYS_lchown, libc::SYS_fchownat, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_futimesat, libc::SYS_utimensat, libc::SYS_setxattr, libc::SYS_lsetxattr,
    libc::SYS_fsetxattr, SETXATTRAT, libc::SYS_removexattr, libc::SYS_lremovexattr,
    libc::SYS_fremovexattr, REMOVEXATTRAT, FILE_SETATTR, libc::SYS_truncate, libc::SYS_creat,
    // What others do with their files.
    libc::SYS_inotify_init, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    // Signals by other ways than kill(2) and its kin, which Landlock keeps inside from 6.12 on.
    libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_pidfd_send_signal,
    // Sockets and memory of others.
    libc::SYS_connect, libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_semget,
    libc::SYS_semop, libc::SYS_semtimedop, libc::SYS_semctl, libc::SYS_msgget, libc::SYS_msgsnd,
    libc::SYS_msgrcv, libc::SYS_msgctl, libc::SYS_mq_open, libc::SYS_mq_unlink,
];

/// Calls whose first argument is a process, 0 for oneself, and that change it.
const OF_A_PROCESS: &[c_long] = &[
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
];

/// What a machine asks of descriptors: terminals, as its consoles may be, and the size of devices.
/// All others are refused without namespaces: FS_IOC_SETFLAGS wants only a descriptor for reading.
const IOCTLS: &[libc::Ioctl] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TIOCGWINSZ,
    libc::TIOCGPTN,
    libc::TIOCSPTLCK,
    libc::TIOCGPTPEER,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOASYNC,
    BLKGETSIZE64,
];

/// Refuses the calls of this process, and of all that it starts, for good. Wants no_new_privs.
///
/// # Errors
/// The host's kernel has no filters.
pub fn refuse(namespaces: bool) -> Result<(), Trouble> {
    // glibc asks clone3(2) first and goes on with clone(2), whose flags a filter can read, only if it
    // is not there. openat2(2) hides its flags as well.
    let absent = BTreeMap::from([(libc::SYS_clone3, vec![]), (libc::SYS_openat2, vec![])]);
    let mut absent = compile(absent, Errno::ENOSYS)?;
    absent.splice(0..0, newer_are_absent());
    let refused = compile(refused(namespaces), Errno::EPERM)?;
    for program in [&refused, &absent] {
        install(program)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refused(namespaces: bool) -> Rules {
    let always = |calls: &[c_long]| calls.iter().map(|call| (*call, vec![])).collect::<Rules>();
    let mut rules = always(NEVER);
    // Namespaces of its own; CLONE_NEWTIME is unshare's alone.
    let new = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let new = new.map(|flag| flag as u64);
    let has = |argument, flag| rule([(argument, Qword, MaskedEq(flag), flag)]);
    rules.insert(libc::SYS_clone, new.iter().map(|flag| has(0, *flag)).collect());
    // Its management console, and pairs. No address family but this is wholly inside a network
    // namespace (AF_VSOCK is not), and a machine has no network.
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![rule([(0, Dword, Ne, libc::AF_UNIX as u64)])]);
    }
    if namespaces {
        return rules;
    }
    rules.extend(always(WITHOUT_NAMESPACES));
    for call in OF_A_PROCESS {
        rules.insert(*call, vec![rule([(0, Dword, Ne, 0)])]);
    }
    for call in [libc::SYS_setpriority, libc::SYS_ioprio_set] {
        rules.insert(call, vec![rule([(1, Dword, Ne, 0)])]);
    }
    // All processes that may be signalled (-1), and process groups.
    rules.insert(libc::SYS_kill, vec![rule([(0, Dword, Gt, i32::MAX as u64)])]);
    // Opening a file only for reading and truncating it: before Linux 6.2 Landlock lets it pass.
    let truncate = libc::O_TRUNC as u64;
    rules.insert(libc::SYS_open, vec![has(1, truncate)]);
    rules.insert(libc::SYS_openat, vec![has(2, truncate)]);
    let others = IOCTLS.iter().map(|request| (1, Dword, Ne, *request));
    rules.insert(libc::SYS_ioctl, vec![rule(others)]);
    rules
}

/// All of these conditions: argument, its width, comparison, value.
fn rule(all: impl IntoIterator<Item = (u8, SeccompCmpArgLen, SeccompCmpOp, u64)>) -> SeccompRule {
    let conditions = all
        .into_iter()
        .map(|(argument, width, op, value)| SeccompCondition::new(argument, width, op, value))
        .collect::<Result<Vec<_>, _>>()
        .expect("arguments are numbered 0 to 5");
    SeccompRule::new(conditions).expect("there is a condition")
}

fn compile(rules: Rules, answer: Errno) -> Result<BpfProgram, Trouble> {
    let answer = SeccompAction::Errno(answer as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, answer, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(|e| format!("a filter of system calls: {e}"))
}

/// `if (nr > LAST) return ENOSYS;`, before all else. Another architecture's numbers are looked at by
/// what follows; of those above the last it answers the same.
fn newer_are_absent() -> [sock_filter; 3] {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let answer = libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32;
    [
        // struct seccomp_data starts with the call's number (linux/seccomp.h).
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, LAST as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
    ]
}

/// seccomp(2), without the mitigation of speculative stores that kernels before 5.16 add to it: a
/// machine has no secrets of its own to keep from its own code, and pays for it with every access.
fn install(program: &[sock_filter]) -> Result<(), Trouble> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|e| e.to_string())?,
        // The same layout; the kernel only reads it.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program lives until the call returns, and its length is right.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    Errno::result(done).map(drop).map_err(super::trouble("a filter of system calls: seccomp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_programs_and_no_call_is_in_both() {
        for namespaces in [true, false] {
            let program = compile(refused(namespaces), Errno::EPERM).unwrap();
            assert!(program.len() > NEVER.len());
        }
        let twice = NEVER.iter().find(|call| WITHOUT_NAMESPACES.contains(call));
        assert_eq!(twice, None);
        assert!(NEVER.iter().chain(WITHOUT_NAMESPACES).all(|call| *call <= LAST));
    }

    /// Refused in a process of its own, since a filter stays. What UML lives by is not refused.
    #[test]
    fn what_is_refused_is_refused_and_nothing_else() {
        let error = |done: c_long| Errno::result(done).err();
        let asked = || -> Result<(), String> {
            nix::sys::prctl::set_no_new_privs().map_err(|e| e.to_string())?;
            refuse(false)?;
            // SAFETY: the calls take integers and pointers to nothing, and most never happen.
            let seen = unsafe {
                [
                    ("bpf", error(libc::syscall(libc::SYS_bpf, 0, 0, 0)), Some(Errno::EPERM)),
                    ("clone3", error(libc::syscall(libc::SYS_clone3, 0, 0)), Some(Errno::ENOSYS)),
                    ("newer", error(libc::syscall(LAST + 1, 0)), Some(Errno::ENOSYS)),
                    ("x32", error(libc::syscall(0x4000_0000 | 39)), Some(Errno::ENOSYS)),
                    ("chmod", error(libc::syscall(libc::SYS_chmod, 0, 0)), Some(Errno::EPERM)),
                    (
                        "chattr",
                        error(libc::syscall(libc::SYS_ioctl, 0, 0x4008_6602_u64, 0)),
                        Some(Errno::EPERM),
                    ),
                    (
                        "tcgets",
                        error(libc::syscall(libc::SYS_ioctl, -1, libc::TCGETS, 0)),
                        Some(Errno::EBADF),
                    ),
                    (
                        "inet",
                        error(libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0)),
                        Some(Errno::EPERM),
                    ),
                    (
                        "unix",
                        error(libc::syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0)),
                        None,
                    ),
                    ("kill all", error(libc::syscall(libc::SYS_kill, -1, 0)), Some(Errno::EPERM)),
                    ("kill self", error(libc::syscall(libc::SYS_kill, libc::getpid(), 0)), None),
                    (
                        "user ns",
                        error(libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0)),
                        Some(Errno::EPERM),
                    ),
                    (
                        "limits of init",
                        error(libc::syscall(libc::SYS_prlimit64, 1, 0, 0, 0)),
                        Some(Errno::EPERM),
                    ),
                    ("own limits", error(libc::syscall(libc::SYS_prlimit64, 0, 0, 0, 0)), None),
                ]
            };
            match seen.iter().find(|(_, seen, wanted)| seen != wanted) {
                Some(wrong) => Err(format!("{wrong:?}")),
                None => Ok(()),
            }
        };
        // SAFETY: the child only makes system calls and ends; it allocates a little, which glibc's
        // fork(2) handlers make safe.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let wrong = asked();
                if let Err(what) = &wrong {
                    eprintln!("{what}");
                }
                // SAFETY: ends the process without the test harness' handlers.
                unsafe { libc::_exit(i32::from(wrong.is_err())) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let ended = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
            }
        }
    }
}
