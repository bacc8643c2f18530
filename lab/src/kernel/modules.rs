//! Which module a kconfig symbol becomes when it is `=m`: a case says what it needs in kconfig
//! symbols, and PID 1 has to load modules. Storage only; taken from the kernel's own Makefiles.

/// Symbol without `CONFIG_`, and the module's name as `modules.dep` spells its file.
pub const MODULES: &[(&str, &str)] = &[
    // fs/
    ("9P_FS", "9p"),
    ("BTRFS_FS", "btrfs"),
    ("CONFIGFS_FS", "configfs"),
    ("CUSE", "cuse"),
    ("EROFS_FS", "erofs"),
    ("EXFAT_FS", "exfat"),
    ("EXT4_FS", "ext4"),
    ("F2FS_FS", "f2fs"),
    ("FUSE_FS", "fuse"),
    ("ISO9660_FS", "isofs"),
    ("JBD2", "jbd2"),
    ("MSDOS_FS", "msdos"),
    ("NFSD", "nfsd"),
    ("NFS_FS", "nfs"),
    ("NILFS2_FS", "nilfs2"),
    ("OVERLAY_FS", "overlay"),
    ("SQUASHFS", "squashfs"),
    ("UDF_FS", "udf"),
    ("VFAT_FS", "vfat"),
    ("VIRTIO_FS", "virtiofs"),
    ("XFS_FS", "xfs"),
    // drivers/block/, drivers/nvme/, drivers/scsi/
    ("BLK_DEV_LOOP", "loop"),
    ("BLK_DEV_NBD", "nbd"),
    ("BLK_DEV_NULL_BLK", "null_blk"),
    ("BLK_DEV_NVME", "nvme"),
    ("BLK_DEV_RAM", "brd"),
    ("BLK_DEV_SD", "sd_mod"),
    ("BLK_DEV_UBLK", "ublk_drv"),
    ("NVME_TARGET", "nvmet"),
    ("NVME_TARGET_LOOP", "nvme-loop"),
    ("SCSI", "scsi_mod"),
    ("SCSI_DEBUG", "scsi_debug"),
    ("SCSI_VIRTIO", "virtio_scsi"),
    ("VIRTIO_BLK", "virtio_blk"),
    ("ZRAM", "zram"),
    // drivers/md/
    ("BCACHE", "bcache"),
    ("BLK_DEV_DM", "dm-mod"),
    ("BLK_DEV_MD", "md-mod"),
    ("DM_BUFIO", "dm-bufio"),
    ("DM_CACHE", "dm-cache"),
    ("DM_CACHE_SMQ", "dm-cache-smq"),
    ("DM_CLONE", "dm-clone"),
    ("DM_CRYPT", "dm-crypt"),
    ("DM_DELAY", "dm-delay"),
    ("DM_DUST", "dm-dust"),
    ("DM_EBS", "dm-ebs"),
    ("DM_ERA", "dm-era"),
    ("DM_FLAKEY", "dm-flakey"),
    ("DM_INTEGRITY", "dm-integrity"),
    ("DM_LOG_WRITES", "dm-log-writes"),
    ("DM_MIRROR", "dm-mirror"),
    ("DM_MULTIPATH", "dm-multipath"),
    ("DM_RAID", "dm-raid"),
    ("DM_SNAPSHOT", "dm-snapshot"),
    ("DM_SWITCH", "dm-switch"),
    ("DM_THIN_PROVISIONING", "dm-thin-pool"),
    ("DM_UNSTRIPED", "dm-unstripe"),
    ("DM_VDO", "dm-vdo"),
    ("DM_VERITY", "dm-verity"),
    ("DM_WRITECACHE", "dm-writecache"),
    ("DM_ZERO", "dm-zero"),
    ("DM_ZONED", "dm-zoned"),
    ("MD_RAID0", "raid0"),
    ("MD_RAID1", "raid1"),
    ("MD_RAID10", "raid10"),
    ("MD_RAID456", "raid456"),
    // drivers/target/
    ("ISCSI_TARGET", "iscsi_target_mod"),
    ("LOOPBACK_TARGET", "tcm_loop"),
    ("TARGET_CORE", "target_core_mod"),
    ("TCM_FILEIO", "target_core_file"),
    ("TCM_IBLOCK", "target_core_iblock"),
    ("TCM_PSCSI", "target_core_pscsi"),
    ("TCM_USER2", "target_core_user"),
];

/// The module that a symbol (with or without `CONFIG_`) becomes; `None` for what is not a storage
/// symbol or is never a module.
pub fn module_for(symbol: &str) -> Option<&'static str> {
    let symbol = symbol.strip_prefix("CONFIG_").unwrap_or(symbol);
    MODULES.iter().find(|(name, _)| *name == symbol).map(|(_, module)| *module)
}

#[cfg(test)]
mod tests {
    use super::*;

    // That the names are right is tested against real kernels in tests/kernel_pull.rs.
    #[test]
    fn symbols_are_found_with_and_without_their_prefix() {
        assert_eq!(module_for("OVERLAY_FS"), Some("overlay"));
        assert_eq!(module_for("CONFIG_LOOPBACK_TARGET"), Some("tcm_loop"));
        assert_eq!(module_for("HOSTFS"), None);
    }

    #[test]
    fn no_symbol_stands_twice() {
        let mut symbols: Vec<_> = MODULES.iter().map(|(symbol, _)| symbol).collect();
        symbols.sort();
        symbols.dedup();
        assert_eq!(symbols.len(), MODULES.len());
    }
}
