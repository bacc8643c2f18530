//! The way out when the host lacks a program: which package has it.

use std::collections::BTreeSet;

use super::search::SearchPath;
use crate::manifest::{Diagnostic, nearest};

/// Programs of the field and the Debian package that brings each. From the packages' own file
/// lists (Debian 12).
const PACKAGES: &[(&str, &str)] = &[
    ("attr", "attr"),
    ("awk", "mawk"),
    ("badblocks", "e2fsprogs"),
    ("bash", "bash"),
    ("bc", "bc"),
    ("bcache", "bcache-tools"),
    ("bcachefs", "bcachefs-tools"),
    ("blkdiscard", "util-linux"),
    ("blkid", "util-linux"),
    ("blkmapd", "nfs-common"),
    ("blkparse", "blktrace"),
    ("blktrace", "blktrace"),
    ("blkzone", "util-linux"),
    ("blockdev", "util-linux"),
    ("btrace", "blktrace"),
    ("btrfs", "btrfs-progs"),
    ("btrfs-image", "btrfs-progs"),
    ("btrfstune", "btrfs-progs"),
    ("busybox", "busybox"),
    ("cache_check", "thin-provisioning-tools"),
    ("cache_dump", "thin-provisioning-tools"),
    ("cache_restore", "thin-provisioning-tools"),
    ("capsh", "libcap2-bin"),
    ("cryptsetup", "cryptsetup-bin"),
    ("curl", "curl"),
    ("dash", "dash"),
    ("dbench", "dbench"),
    ("debugfs", "e2fsprogs"),
    ("dmeventd", "dmeventd"),
    ("dmsetup", "dmsetup"),
    ("dmstats", "dmsetup"),
    ("dump.exfat", "exfatprogs"),
    ("dump.f2fs", "f2fs-tools"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2freefrag", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("e2image", "e2fsprogs"),
    ("e2label", "e2fsprogs"),
    ("e2undo", "e2fsprogs"),
    ("e4crypt", "e2fsprogs"),
    ("e4defrag", "e2fsprogs"),
    ("exfatlabel", "exfatprogs"),
    ("fallocate", "util-linux"),
    ("fdisk", "fdisk"),
    ("file", "file"),
    ("filefrag", "e2fsprogs"),
    ("findmnt", "util-linux"),
    ("fio", "fio"),
    ("flock", "util-linux"),
    ("fsck", "util-linux"),
    ("fsck.btrfs", "btrfs-progs"),
    ("fsck.erofs", "erofs-utils"),
    ("fsck.exfat", "exfatprogs"),
    ("fsck.ext4", "e2fsprogs"),
    ("fsck.f2fs", "f2fs-tools"),
    ("fsck.vfat", "dosfstools"),
    ("fsck.xfs", "xfsprogs"),
    ("fsfreeze", "util-linux"),
    ("fstrim", "util-linux"),
    ("fusermount3", "fuse3"),
    ("gawk", "gawk"),
    ("gdisk", "gdisk"),
    ("getcap", "libcap2-bin"),
    ("getfacl", "acl"),
    ("getfattr", "attr"),
    ("hdparm", "hdparm"),
    ("integritysetup", "cryptsetup-bin"),
    ("ip", "iproute2"),
    ("iscsiadm", "open-iscsi"),
    ("keyctl", "keyutils"),
    ("kmod", "kmod"),
    ("losetup", "mount"),
    ("lsattr", "e2fsprogs"),
    ("lsblk", "util-linux"),
    ("lsmod", "kmod"),
    ("lsof", "lsof"),
    ("lsscsi", "lsscsi"),
    ("lvchange", "lvm2"),
    ("lvconvert", "lvm2"),
    ("lvcreate", "lvm2"),
    ("lvextend", "lvm2"),
    ("lvm", "lvm2"),
    ("lvremove", "lvm2"),
    ("lvs", "lvm2"),
    ("mdadm", "mdadm"),
    ("mdmon", "mdadm"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs", "util-linux"),
    ("mkfs.bcachefs", "bcachefs-tools"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.exfat", "exfatprogs"),
    ("mkfs.ext2", "e2fsprogs"),
    ("mkfs.ext3", "e2fsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.f2fs", "f2fs-tools"),
    ("mkfs.fat", "dosfstools"),
    ("mkfs.gfs2", "gfs2-utils"),
    ("mkfs.jfs", "jfsutils"),
    ("mkfs.nilfs2", "nilfs-tools"),
    ("mkfs.ntfs", "ntfs-3g"),
    ("mkfs.ocfs2", "ocfs2-tools"),
    ("mkfs.ubifs", "mtd-utils"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mksquashfs", "squashfs-tools"),
    ("mkswap", "util-linux"),
    ("mount", "mount"),
    ("mount.cifs", "cifs-utils"),
    ("mount.fuse3", "fuse3"),
    ("mount.nfs", "nfs-common"),
    ("mountpoint", "util-linux"),
    ("multipath", "multipath-tools"),
    ("multipathd", "multipath-tools"),
    ("nbd-client", "nbd-client"),
    ("nbd-server", "nbd-server"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdinfo", "libnbd-bin"),
    ("nbdkit", "nbdkit"),
    ("nvme", "nvme-cli"),
    ("parted", "parted"),
    ("perf", "linux-perf"),
    ("pgrep", "procps"),
    ("pkill", "procps"),
    ("ps", "procps"),
    ("pvcreate", "lvm2"),
    ("pvs", "lvm2"),
    ("python3", "python3-minimal"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("quota", "quota"),
    ("quotacheck", "quota"),
    ("quotaon", "quota"),
    ("resize2fs", "e2fsprogs"),
    ("rsync", "rsync"),
    ("setcap", "libcap2-bin"),
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("setpriv", "util-linux"),
    ("sfdisk", "fdisk"),
    ("sg_inq", "sg3-utils"),
    ("sg_reset", "sg3-utils"),
    ("sg_unmap", "sg3-utils"),
    ("sg_write_same", "sg3-utils"),
    ("sgdisk", "gdisk"),
    ("smartctl", "smartmontools"),
    ("socat", "socat"),
    ("strace", "strace"),
    ("stress-ng", "stress-ng"),
    ("swapoff", "mount"),
    ("swapon", "mount"),
    ("sysctl", "procps"),
    ("targetcli", "targetcli-fb"),
    ("tcmu-runner", "tcmu-runner"),
    ("thin_check", "thin-provisioning-tools"),
    ("thin_delta", "thin-provisioning-tools"),
    ("thin_dump", "thin-provisioning-tools"),
    ("thin_ls", "thin-provisioning-tools"),
    ("thin_repair", "thin-provisioning-tools"),
    ("thin_restore", "thin-provisioning-tools"),
    ("thin_rmap", "thin-provisioning-tools"),
    ("thin_trim", "thin-provisioning-tools"),
    ("trace-cmd", "trace-cmd"),
    ("tune2fs", "e2fsprogs"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("unsquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("vgchange", "lvm2"),
    ("vgcreate", "lvm2"),
    ("vgs", "lvm2"),
    ("vmtouch", "vmtouch"),
    ("wipefs", "util-linux"),
    ("xfs_admin", "xfsprogs"),
    ("xfs_bmap", "xfsprogs"),
    ("xfs_db", "xfsprogs"),
    ("xfs_freeze", "xfsprogs"),
    ("xfs_fsr", "xfsprogs"),
    ("xfs_growfs", "xfsprogs"),
    ("xfs_info", "xfsprogs"),
    ("xfs_io", "xfsprogs"),
    ("xfs_logprint", "xfsprogs"),
    ("xfs_mdrestore", "xfsprogs"),
    ("xfs_metadump", "xfsprogs"),
    ("xfs_quota", "xfsprogs"),
    ("xfs_repair", "xfsprogs"),
    ("xfsdump", "xfsdump"),
    ("zramctl", "util-linux"),
    ("zstd", "zstd"),
];

/// The Debian package of a program, from the table.
pub fn debian_package(program: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|(name, _)| *name == program).map(|(_, package)| *package)
}

/// The error for programs that the host lacks, each with who asked for it (`image base`, `the
/// case`): all of them at once, so that one look at it is enough.
pub fn missing(programs: &[(String, String)], search: &SearchPath) -> Diagnostic {
    let mut askers: Vec<&str> = programs.iter().map(|(_, asker)| asker.as_str()).collect();
    askers.sort_unstable();
    askers.dedup();
    let wanted: Vec<String> = askers
        .iter()
        .map(|asker| {
            let names = programs.iter().filter(|(_, a)| a == asker).map(|(name, _)| name.as_str());
            format!("{} (for {asker})", names.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let noun = if programs.len() == 1 { "program" } else { "programs" };
    let message = format!("not found on this host: the {noun} {}", wanted.join("; "));

    let mut help = Vec::new();
    let packages: BTreeSet<&str> =
        programs.iter().filter_map(|(name, _)| debian_package(name)).collect();
    if !packages.is_empty() {
        let packages = packages.into_iter().collect::<Vec<_>>().join(" ");
        help.push(format!("on Debian: apt install {packages}"));
    }
    let on_host = search.names();
    for (name, _) in programs.iter().filter(|(name, _)| debian_package(name).is_none()) {
        let known = PACKAGES.iter().map(|(known, _)| *known);
        let known = known.chain(on_host.iter().map(String::as_str));
        // Among thousands of names some short one is always near: the first letter must agree.
        let known = known.filter(|k| k.chars().next() == name.chars().next());
        match nearest(name, known) {
            Some(near) => help.push(format!("did you mean {near} instead of {name}?")),
            None => help.push(format!(
                "to find the package of {name} on Debian: apt-file search --regexp 'bin/{name}$'"
            )),
        }
    }
    Diagnostic::trouble(message).help(help.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(programs: &[(&str, &str)]) -> Diagnostic {
        let programs: Vec<_> =
            programs.iter().map(|(p, a)| (p.to_string(), a.to_string())).collect();
        missing(&programs, &SearchPath::of_host())
    }

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(PACKAGES.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn names_program_asker_and_package() {
        let diagnostic =
            told(&[("mkfs.xfs", "the case"), ("xfs_io", "the case"), ("fio", "image base")]);
        assert_eq!(
            diagnostic.message(),
            "not found on this host: the programs fio (for image base); mkfs.xfs, xfs_io (for the case)"
        );
        assert_eq!(diagnostic.way_out(), Some("on Debian: apt install fio xfsprogs"));
    }

    #[test]
    fn a_slip_gets_the_nearest_name_and_a_stranger_a_way_to_look() {
        let way_out = told(&[("dmsteup", "the case")]).way_out().unwrap().to_string();
        assert_eq!(way_out, "did you mean dmsetup instead of dmsteup?");
        let way_out = told(&[("zz-frobnicate-9", "the case")]).way_out().unwrap().to_string();
        assert!(way_out.contains("apt-file search --regexp 'bin/zz-frobnicate-9$'"), "{way_out}");
    }
}
