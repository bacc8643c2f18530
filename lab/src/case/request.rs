//! What a command asks for, run by run: cases with their parameters on kernels, and their twins.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::plan::{Instance, TwinOf};
use crate::manifest::{Case, Diagnostic, KernelSpec, Project, Result};
use crate::report::RunRef;

/// The tag of cases that a command runs only when they are asked for.
const SLOW: &str = "slow";

/// What to select runs by.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names or globs of cases.
    pub cases: Vec<String>,
    /// The kernels.
    pub kernels: Vec<KernelSpec>,
    /// Only cases with one of these tags; empty: any, but for `slow` where no case is named.
    pub tags: Vec<String>,
    /// The cases' twins too.
    pub twins: bool,
}

/// One run to be done.
#[derive(Clone, Debug)]
pub struct Request {
    /// The case with its parameters.
    pub instance: Instance,
    /// The kernel.
    pub kernel: KernelSpec,
    /// For a twin: whose accepted transcript it is held against.
    pub twin_of: Option<TwinOf>,
    /// Whether there is a snapshot to be held against at all.
    pub review: bool,
}

impl Selection {
    fn wants(&self, case: &Case) -> bool {
        match (self.tags.is_empty(), self.cases.is_empty()) {
            (true, true) => !case.tags.iter().any(|tag| tag == SLOW),
            (true, false) => true,
            (false, _) => case.tags.iter().any(|tag| self.tags.contains(tag)),
        }
    }

    /// The runs that follow, in the order in which they are reported: case by case, each with its
    /// parameters on each kernel, then its twins.
    ///
    /// # Errors
    /// An unknown or invalid case, an unknown kernel.
    pub fn requests(&self, project: &Project) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for case in project.select_cases(&self.cases)? {
            if !self.wants(case) {
                continue;
            }
            let instances = case.instances();
            for params in &instances {
                for kernel in &self.kernels {
                    requests.push(Request {
                        instance: Instance::new(case, params.clone()),
                        kernel: kernel.clone(),
                        twin_of: None,
                        review: true,
                    });
                }
            }
            if self.twins
                && let (Some(kernel), Some(params)) = (self.kernels.first(), instances.first())
            {
                for index in 0..case.twins.len() {
                    requests.push(twin(project, case, index, params, kernel)?);
                }
            }
        }
        Ok(requests)
    }
}

/// Each of `requests` so many times, round by round: what they share is between the repetitions.
pub fn repeated(requests: &[Request], times: u32) -> Vec<Request> {
    (0..times).flat_map(|_| requests.iter().cloned()).collect()
}

/// The changed copy of a case that its twin `index` describes.
fn twin(
    project: &Project,
    case: &Case,
    index: usize,
    params: &BTreeMap<String, String>,
    kernel: &KernelSpec,
) -> Result<Request> {
    let twin = &case.twins[index];
    let mut instance = Instance::new(case, params.clone());
    instance.params.extend(twin.with.params.clone());
    for (name, file) in &twin.with.files {
        instance.case.files.insert(name.clone(), case.dir.join(file));
    }
    instance.twin = Some(twin.clone());
    let chosen = match &twin.with.kernel {
        Some(name) => {
            let found = project.select_kernels(std::slice::from_ref(name))?;
            let none = || Diagnostic::usage(format!("{}: its twin names no kernel", case.name));
            (*found.first().ok_or_else(none)?).clone()
        }
        None => kernel.clone(),
    };
    let (patches, config) = (&twin.with.patches, &twin.with.config);
    let chosen = match patches.is_empty() && config.is_empty() {
        true => chosen,
        false => chosen.varied(patches, config)?,
    };
    Ok(Request {
        instance,
        kernel: chosen,
        twin_of: Some(TwinOf { params: params.clone(), kernel: kernel.name.clone() }),
        review: true,
    })
}

impl Request {
    /// The run as events name it.
    pub fn run_ref(&self, number: usize) -> RunRef {
        RunRef {
            number,
            case: self.instance.case.name.clone(),
            params: self.instance.params.clone(),
            kernel: self.kernel.name.clone(),
            twin: self.instance.twin.as_ref().map(|twin| twin.must.clone()),
        }
    }

    /// Parameters and kernel of the transcript that this run is held against.
    pub(super) fn held_against(&self) -> (&BTreeMap<String, String>, &str) {
        match &self.twin_of {
            Some(twin_of) => (&twin_of.params, &twin_of.kernel),
            None => (&self.instance.params, &self.kernel.name),
        }
    }
}

/// A time as the names of runs begin with it, in UTC: `20261129-200226`.
pub fn run_stamp(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8);
    format!("{day}-{time}")
}

/// `STAMP-CASE[.a-1]@KERNEL`: sorts by time, and says what it is.
pub(super) fn run_name(request: &Request) -> String {
    let mut name = format!("{}-{}", run_stamp(SystemTime::now()), request.instance.case.name);
    for (key, value) in &request.instance.params {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        name.push_str(&format!(".{key}-{}", value.chars().map(plain).collect::<String>()));
    }
    format!("{name}@{}", request.kernel.name)
}
