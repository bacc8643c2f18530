//! A guest that floods a channel: the lab's memory and the run's folder stay small, every byte is
//! still counted, and the verdict is the one that the bytes deserve.

use std::path::Path;

use lab::case::Evidence;
use lab::report::RunResult;

use super::support::{Lab, lab_for};

/// Bytes of a flood.
const FLOOD: u64 = 100 << 20;
/// What the lab itself may take of the host's memory, in KiB; it peaks at some 13 MB without a flood.
const MEMORY: u64 = 40 << 10;
/// What a run's folder may hold: three channels, each with head, tail and note, and some text.
const FOLDER: u64 = (3 * 20 + 2) << 20;

/// The peak of a process' resident memory in KiB (VmHWM, proc_pid_status(5)), until it ends.
fn peak(pid: u32, mut ended: impl FnMut() -> bool) -> u64 {
    let mut peak = 0;
    while !ended() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
        peak = kib.unwrap_or(peak).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    peak
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// Runs the case, and holds lab and folder to their bounds.
fn flooded(lab: &Lab, case: &str) -> (RunResult, Evidence) {
    let mut running = lab.start(&["run", case, "--json"]);
    let pid = running.child.id();
    let peak = peak(pid, || running.child.try_wait().unwrap().is_some());
    let ran = running.wait();
    let result = ran.result();
    let folder = result.folder.clone().unwrap();
    let evidence = std::fs::read(folder.join("evidence.json")).unwrap();
    let evidence: Evidence = serde_json::from_slice(&evidence).unwrap();
    assert!(peak > 0 && peak < MEMORY, "{peak} KiB at the peak: {ran}");
    assert!(size(&folder) < FOLDER, "{} bytes in {}", size(&folder), folder.display());
    println!("{case}: {peak} KiB at the peak, {} bytes in its folder", size(&folder));
    (result, evidence)
}

#[test]
fn of_the_terminal() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    // Filtered, so that this costs no memory either; and something after it, which is whole.
    let flood = |bytes: u64| {
        format!(
            "filters = [\"uuids\"]\n[machine]\ntimeout = \"50s\"\n\
             [[step]]\nrun = \"noise --kind nul --bytes {bytes}\"\n[[step]]\nrun = \"echo after\"\n"
        )
    };
    lab.case("flood", &flood(FLOOD));
    let (result, evidence) = flooded(&lab, "flood");
    assert_eq!(result.code, "fail:unreviewed", "{result:?}");
    assert_eq!((evidence.terminal_seen, evidence.steps[0].bytes), (FLOOD + 6, FLOOD));
    let mut hasher = blake3::Hasher::new();
    (0..FLOOD >> 20).for_each(|_| {
        hasher.update(&[0; 1 << 20]);
    });
    let digest = format!("[cut, {FLOOD} bytes in all, blake3 {}]", hasher.finalize());
    assert!(evidence.transcript.contains(&digest), "{}", evidence.transcript);
    assert!(evidence.transcript.ends_with("$ echo after\nafter\n"), "{}", evidence.transcript);
    let kept = std::fs::read(result.folder.unwrap().join("terminal")).unwrap();
    let note = format!("\n[lab: {} bytes are left out here]\n", FLOOD + 6 - (20 << 20));
    assert_eq!(kept.len(), (20 << 20) + note.len());
    assert!(kept[16 << 20..].starts_with(note.as_bytes()) && kept.ends_with(b"after\n"));

    // The twin: one byte more, and it is another transcript.
    lab.lab(&["accept", "flood"]).code(0);
    lab.edit("cases/flood/case.toml", &FLOOD.to_string(), &(FLOOD + 1).to_string());
    assert_eq!(flooded(&lab, "flood").0.code, "fail:output");
}

#[test]
fn of_the_kernel_log() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    // 64 bytes a line and 15 lines a record, below the kernel's limit of 1 KiB with stamps.
    lab.case(
        "flood",
        "allow = [\"BUG\"]\n[needs]\nprograms = [\"yes\", \"dd\", \"head\"]\n\
         [machine]\ntimeout = \"50s\"\ncmdline = [\"printk.devkmsg=on\"]\n[[step]]\nrun = '''\n\
         line=$(head -c 63 /dev/zero | tr '\\0' x)\n\
         yes $line | dd of=/dev/kmsg bs=640 count=120000 iflag=fullblock 2> /dev/null\n\
         echo 'BUG: the last word' > /dev/kmsg'''\n",
    );
    lab.edit("cases/flood/case.toml", "\"head\"]", "\"head\", \"tr\"]");
    let (result, evidence) = flooded(&lab, "flood");
    // Nothing of it was lost: neither the lines nor what stands behind them.
    assert_eq!(result.code, "fail:unreviewed", "{result:?}");
    assert!(evidence.log_complete && evidence.splats.len() == 1, "{:?}", evidence.splats);
    assert!(evidence.splats[0].number > 1_200_000, "{:?}", evidence.splats);
    let kept = std::fs::read(result.folder.unwrap().join("kernel.log")).unwrap();
    let kept = String::from_utf8_lossy(&kept).into_owned();
    assert!(kept.contains("] Linux version ") && kept.contains("BUG: the last word\n"));
    assert!(kept.contains(" bytes are left out here]\n"));
}

#[test]
fn of_the_control_channel() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    for noise in ["yes lab 7 0123456789abcdef", "cat /dev/zero"] {
        let run = format!("{noise} | head -c {FLOOD} > /dev/ttyS0");
        lab.case(
            "flood",
            &format!(
                "[needs]\nprograms = [\"yes\", \"head\"]\n[machine]\ntimeout = \"50s\"\n\
                 [[step]]\nrun = \"{run}\"\n"
            ),
        );
        let (result, evidence) = flooded(&lab, "flood");
        assert_eq!(result.code, "broken:forged", "{result:?}");
        assert!(evidence.forgeries.len() <= 8);
    }
}
