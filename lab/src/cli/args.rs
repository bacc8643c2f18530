//! The command line, declared once: parsing, help, completions and the manual page follow from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::choose::Variation;
use crate::machine::Isolation;

/// A kernel test lab for filesystems and block stacks.
///
/// Boots real kernels as User-Mode Linux, types scripted cases at their console, and compares what
/// came back with reviewed snapshots. lab.toml is looked for upwards from the current folder;
/// without one the Debian kernels are known all the same.
#[derive(Debug, Parser)]
#[command(name = "lab", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "First steps: lab doctor; lab run; lab new my-case. \
Exit codes: lab help exit-codes.")]
pub struct Cli {
    /// Work in DIR, as in make and git.
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run cases on kernels, or one command with no case.
    ///
    /// Without a case: all but those tagged slow. Without -k: the built kernel tree that one stands
    /// in, else lab.toml's default-kernels. Several at once, in parallel up to the machine's cores
    /// and memory.
    Run(RunArgs),
    /// A terminal in a machine, with the case's disks, shares and programs.
    Shell(ShellArgs),
    /// Walk through the transcripts that wait for review.
    Review,
    /// Accept transcripts that wait for review, without walking through them.
    Accept(AcceptArgs),
    /// List the cases.
    List(ListArgs),
    /// Show what a case does, as the lab understands it.
    Show {
        /// The case.
        case: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a commented skeleton of a case.
    New {
        /// The new case's name: small letters, digits, `-`, `_` and `.`.
        case: String,
    },
    /// Make a commented lab.toml in the current folder.
    Init,
    /// Finished runs.
    Runs {
        /// What to do with them; lists them if nothing is said.
        #[command(subcommand)]
        command: Option<RunsCommand>,
    },
    /// Kernels.
    Kernel {
        /// What to do with them; lists them if nothing is said.
        #[command(subcommand)]
        command: Option<KernelCommand>,
    },
    /// Free what is no longer needed: runs beyond [runs] of lab.toml, what killed labs left, images
    /// that nobody used for long; with --kernels also kernels and what they are built from.
    ///
    /// What a running lab uses always stays. The cache is shared by all projects of a user: whatever
    /// was used within --days stays, whoever used it, and so does what lab.toml of this project
    /// names, however old it is, unless --all is given. What goes is fetched or built again when it
    /// is wanted. Runs: the newest always stays; `lab runs bundle` keeps one for good.
    Gc(GcArgs),
    /// Look whether this host has what the lab needs, and how to get it.
    Doctor {
        /// As JSON.
        #[arg(long, conflicts_with = "packages")]
        json: bool,
        /// Only the programs that cases want and this host lacks, for scripts that install them:
        /// a line each, PACKAGE|PROGRAM|WHY, the package as Debian calls it.
        #[arg(long)]
        packages: bool,
    },
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff): `lab man | man -l -`.
    Man,
}

/// `lab run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Names or globs of cases.
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,
    /// Kernels, by name or glob, or path:FILE-OR-TREE; may be repeated, or a list with commas.
    #[arg(short, long = "kernel", value_name = "KERNEL", value_delimiter = ',')]
    pub kernels: Vec<String>,
    /// One-off changes of the kernels.
    #[command(flatten)]
    pub variation: Variation,
    /// Try each patch of SERIES in turn, on those before it: applies, builds, boots, cases; a line
    /// each. SERIES is one of patches/, or a file.
    #[arg(long, value_name = "SERIES", conflicts_with = "twins")]
    pub each_patch: Option<String>,
    /// At most so many runs at once; by default as many as there are cores.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Do every run N times, in N rounds, and count the outcomes: for failures that come and go.
    /// Writes no transcripts for review where N is more than 1.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "each_patch")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Start no more runs once one has failed or is broken.
    #[arg(long, conflicts_with = "each_patch")]
    pub fail_fast: bool,
    /// Only cases with this tag. Those tagged slow run only so, or when named.
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Run the cases' twins too: each proves that its case can fail.
    #[arg(long)]
    pub twins: bool,
    /// Events as JSON, one a line, instead of text.
    #[arg(long)]
    pub json: bool,
    /// Say what would run, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Write no transcripts for review.
    #[arg(long)]
    pub no_pending: bool,
    /// Keep the disks' files in the run's folder.
    #[arg(long)]
    pub keep_disks: bool,
    /// More programs of the host for a one-off command; its own first word is found by itself.
    #[arg(long = "with", value_name = "PROGRAM", requires = "command")]
    pub programs: Vec<String>,
    /// How machines are kept from the host; by default as well as this host can.
    #[arg(long, value_name = "LEVEL")]
    pub sandbox: Option<Sandbox>,
    /// One command in place of cases: a single word is shell text, several are quoted for you.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// How machines are kept from the host. Recorded with every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// Namespaces and a private root: the only level that carries the promise.
    Full,
    /// Landlock and a filter of system calls, where namespaces are refused: weak.
    Landlock,
    /// None: guest root on UML is you.
    Off,
}

impl From<Sandbox> for Isolation {
    fn from(asked: Sandbox) -> Self {
        match asked {
            Sandbox::Full => Self::Full,
            Sandbox::Landlock => Self::Landlock,
            Sandbox::Off => Self::Off,
        }
    }
}

/// How make is kept from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MakeSandbox {
    /// Namespaces and a private root; where the host refuses them, nothing is built.
    Full,
    /// None: a Makefile is you.
    Off,
}

impl From<MakeSandbox> for Isolation {
    fn from(asked: MakeSandbox) -> Self {
        match asked {
            MakeSandbox::Full => Self::Full,
            MakeSandbox::Off => Self::Off,
        }
    }
}

/// `lab shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The case whose disks, shares and programs are wanted.
    pub case: Option<String>,
    /// The kernel; by default the first of lab.toml's default-kernels.
    #[arg(short, long, value_name = "KERNEL")]
    pub kernel: Option<String>,
    /// One-off changes of the kernel.
    #[command(flatten)]
    pub variation: Variation,
    /// More programs of the host.
    #[arg(long = "with", value_name = "PROGRAM")]
    pub programs: Vec<String>,
    /// How the machine is kept from the host; by default as well as this host can.
    #[arg(long, value_name = "LEVEL")]
    pub sandbox: Option<Sandbox>,
}

/// `lab accept`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Cases whose transcripts to accept.
    #[arg(value_name = "CASE", required_unless_present = "all")]
    pub cases: Vec<String>,
    /// All that wait.
    #[arg(long, conflicts_with = "cases")]
    pub all: bool,
    /// Why a kernel rightly differs: wanted where a variant is accepted.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// A name for the variant; by default its kernel's.
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
}

/// `lab list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Names or globs of cases.
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `lab gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Kernels of the store too, source trees, build folders, and module trees of your own kernels.
    #[arg(long)]
    pub kernels: bool,
    /// Also kernels that lab.toml names, where they were not used for long.
    #[arg(long, requires = "kernels")]
    pub all: bool,
    /// So many days without use are long; by default [cache] days of lab.toml.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `lab runs ...`.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List them, the newest last.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// At most so many.
        #[arg(short = 'n', default_value_t = 20)]
        count: usize,
    },
    /// Everything about a run: verdict, transcript, kernel log.
    Log {
        /// A run's name, a part of it, or a case's; the last run by default.
        run: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Pack a run into one archive with everything to reproduce it: its folder, the case, lab.toml,
    /// patches and fragments of its kernel, the image's provenance, this host's description.
    ///
    /// Unpacked, it is a project in which `lab runs again` does the same. Nothing of your home and
    /// environment goes in; look at what the guest printed before you give it away.
    Bundle {
        /// A run's name, a part of it, or a case's; the last run by default.
        run: Option<String>,
        /// The archive; its ending says how it is compressed (.tar.zst, .tar.gz, .tar.xz, .tar). By
        /// default the run's name, in the current folder.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The kernel too: what boots, its configuration, modules and libraries.
        #[arg(long)]
        kernel: bool,
    },
    /// Run the same again, from its plan.
    Again {
        /// A run's name, a part of it, or a case's; the last run by default.
        run: Option<String>,
        /// Events as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `lab kernel ...`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// List the kernels that lab.toml knows, and which are here.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch prebuilt kernels, or newer versions of those that are here.
    Pull {
        /// Kernels, by name or glob; by default lab.toml's default-kernels.
        #[arg(value_name = "KERNEL")]
        kernels: Vec<String>,
    },
    /// Build kernels from source, as far as the store does not have them.
    Build {
        /// Kernels, by name or glob; by default lab.toml's default-kernels.
        #[arg(value_name = "KERNEL")]
        kernels: Vec<String>,
        /// One-off changes of the kernels.
        #[command(flatten)]
        variation: Variation,
        /// How make is kept from the host; by default fully, or not at all where the host refuses that.
        #[arg(long, value_name = "LEVEL")]
        sandbox: Option<MakeSandbox>,
    },
    /// Explain a symbol of a kernel's configuration: value, who asked for it, what blocks it.
    Config {
        /// The kernel.
        kernel: String,
        /// The symbol, with or without CONFIG_; without one the whole configuration is printed.
        symbol: Option<String>,
    },
    /// Remove kernels from the cache.
    Rm {
        /// Kernels, by name or glob.
        #[arg(value_name = "KERNEL", required = true)]
        kernels: Vec<String>,
    },
}
