//! What a guest reaches of its host through hostfs, as root in the guest: the private root and
//! nothing behind it. The suite on trust goes further.

use super::support::lab_for;

#[test]
fn the_private_root_is_all_there_is() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let command = "mount -t hostfs none /mnt -o / && ls /mnt /mnt/dev /mnt/lab | tr '\\n' ' '; \
                   ls /mnt/proc | grep -c '^[0-9]'";
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", command]);
    ran.code(0).out("/mnt: dev lab lib lib64 proc  /mnt/dev: null random shm  /mnt/lab: initramfs");
}

/// Where the lab runs as root, so does the machine; /proc/sys asks for the user alone.
#[test]
fn the_hosts_settings_and_devices_cannot_be_changed() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let command = "mount -t hostfs none /mnt -o /; for f in core_pattern randomize_va_space; do \
                   (echo 1 > /mnt/proc/sys/kernel/$f) && echo written; done; \
                   chmod 0 /mnt/dev/null && echo changed; rm /mnt/lab/linux && echo removed; true";
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", command]);
    ran.code(0).out("Read-only file system");
    for done in ["written", "changed", "removed"] {
        let line = format!("       {done}");
        assert!(!ran.stdout.lines().any(|l| l == line), "{done}: {}", ran.stdout);
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}
