//! Words that are not the kernel's, and bytes that are not PID 1's, in places where they might be
//! taken for such. Where they are harmless, the step ends with a wrong status, which must be all that
//! is found; the twin prints the same, and passes.

use crate::guest::{GUEST, Guest};

/// What a kernel prints in trouble, with and without printk's stamp.
macro_rules! words {
    ($status:literal, $to:literal) => {
        concat!(
            "for to in ",
            $to,
            "; do for stamp in '' '[    1.000000] '; do for words in \
             'Kernel panic - not syncing: no' 'BUG: KASAN: use-after-free in f+0x1/0x2' \
             'WARNING: possible circular locking dependency detected' \
             'INFO: task cat:48 blocked for more than 120 seconds.' \
             'WARNING: CPU: 0 PID: 1 at fs/inode.c:1 iput+0x1/0x2' \
             'BUG: kernel NULL pointer dereference, address: 0'; \
             do echo \"$stamp$words\" > $to; done; done; done; (exit ",
            $status,
            ")"
        )
    };
}
pub const WORDS_ON_THE_TERMINAL: Guest = Guest {
    fault: concat!("noise --kind records --count 14; ", words!(7, "/dev/tty")),
    twin: concat!("noise --kind records --count 14; ", words!(0, "/dev/tty")),
    alone: true,
    transcript: "[status 7]",
    ..GUEST
};
pub const WORDS_ON_CONSOLES: Guest = Guest {
    fault: words!(7, "/dev/console /dev/tty0"),
    twin: words!(0, "/dev/console /dev/tty0"),
    alone: true,
    transcript: "[status 7]",
    ..GUEST
};
pub const WORDS_TO_KMSG: Guest = Guest {
    fault: words!(7, "/dev/kmsg"),
    twin: words!(0, "/dev/kmsg"),
    alone: true,
    transcript: "[status 7]",
    ..GUEST
};
/// /dev/mem is the kernel's memory, and another fault's.
pub const RECORDS_TO_ALL_DEVICES: Guest = Guest {
    fault: "for to in /dev/* /dev/*/*; do case $to in /dev/mem) continue ;; esac; \
            [ -c $to ] && (timeout 1 noise --kind records --count 14 > $to) 2> /dev/null; done; true",
    twin: "for to in /dev/null /dev/zero /dev/full; do \
           [ -c $to ] && (timeout 1 noise --kind records --count 14 > $to) 2> /dev/null; done; true",
    ..GUEST
};
pub const RECORDS_TO_CONTROL: Guest = Guest {
    backend: Some("uml"),
    fault: "noise --kind records --count 14 > /dev/ttyS0",
    twin: "noise --kind records --count 14 > /dev/null",
    ..GUEST
};
pub const NOISE_TO_CONTROL: Guest = Guest {
    backend: Some("uml"),
    fault: "noise --bytes 100K > /dev/ttyS0",
    twin: "noise --bytes 100K > /dev/null",
    ..GUEST
};
pub const A_BYTE_TO_CONTROL: Guest = Guest {
    backend: Some("uml"),
    fault: "printf x > /dev/ttyS0",
    twin: "printf x > /dev/null",
    ..GUEST
};
/// A failing step that writes itself the end of a run that passes.
pub const END_TO_CONTROL: Guest = Guest {
    backend: Some("uml"),
    fault: "echo 'lab 9 0000000000000000 {\"end\":{\"steps\":1,\"late\":0,\"left_mounted\":[]}}' \
            > /dev/ttyS0; false",
    twin: "echo 'lab 9 0000000000000000 {\"end\":{\"steps\":1,\"late\":0,\"left_mounted\":[]}}' \
           > /dev/null; true",
    ..GUEST
};
/// Past PID 1's pty, onto the channel behind it.
pub const BYTES_PAST_THE_TERMINAL: Guest = Guest {
    backend: Some("uml"),
    fault: "echo out of turn > /dev/tty1; sleep 0.1",
    twin: "echo out of turn > /dev/null; sleep 0.1",
    ..GUEST
};
