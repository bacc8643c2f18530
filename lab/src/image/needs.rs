//! What a file of an image needs to run: its loader and libraries, a script's interpreter, and what
//! some programs read without saying so.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::collect::{Collector, utf8};
use super::elf;
use super::libraries::Found;
use super::recipe;
use super::tree::Node;
use crate::manifest::{Diagnostic, Result};

impl Collector<'_> {
    /// What a file needs to run. `opened` is the path by which the loader opens it, whose folder is
    /// its $ORIGIN; `inherited` are the DT_RPATHs of those that load it.
    pub(super) fn closure(
        &mut self,
        opened: &Path,
        real: &Path,
        who: &str,
        inherited: &[PathBuf],
    ) -> Result<()> {
        if !self.visited.insert((real.to_path_buf(), inherited.to_vec())) {
            return Ok(());
        }
        let data = fs::read(real).map_err(|e| Diagnostic::io("read", real, &e))?;
        if data.starts_with(b"#!") {
            return self.script(&data, real, who);
        }
        let elf = match elf::parse(&data) {
            None => return Ok(()),
            Some(Ok(elf)) => elf,
            Some(Err(why)) => {
                let message = format!("{} is a damaged program: {why}", real.display());
                return Err(Diagnostic::trouble(message).help("reinstall the package it is from"));
            }
        };
        if let Some(interpreter) = &elf.interpreter {
            self.executable(interpreter, who)?;
        }
        let origin = opened.parent().unwrap_or(Path::new("/"));
        let expanded = |folders: &[String]| -> Vec<PathBuf> {
            folders.iter().map(|f| elf::expand(f, origin, elf.machine)).collect()
        };
        let mut rpath = expanded(&elf.rpath);
        rpath.extend_from_slice(inherited);
        let runpath = expanded(&elf.runpath);
        let folders = if runpath.is_empty() { &rpath } else { &runpath };
        for name in &elf.needed {
            if !self.library(name, folders, &elf, who, &rpath)? {
                let message = format!(
                    "the program {who} needs the library {name} (named by {}), which this host does \
                     not have",
                    real.display()
                );
                let help =
                    format!("it does not start on the host either: see `ldd {}`", real.display());
                return Err(Diagnostic::trouble(message).help(help));
            }
        }
        if elf.unwinds {
            self.library(recipe::UNWINDER, folders, &elf, who, &rpath)?;
        }
        Ok(())
    }

    /// Takes a library along; whether the host has it.
    fn library(
        &mut self,
        name: &str,
        folders: &[PathBuf],
        by: &elf::Elf,
        who: &str,
        rpath: &[PathBuf],
    ) -> Result<bool> {
        let path = match self.libraries.find(name, folders, by.machine) {
            None => return Ok(false),
            Some(Found::Plain(path)) => path,
            Some(Found::ByCache(path)) => {
                // The C library's own folder is one that the guest's loader searches by itself.
                let libc = self.libraries.find("libc.so.6", &[], by.machine);
                if let Some(Found::Plain(libc)) = libc {
                    let link = libc.with_file_name(name);
                    self.tree.put(utf8(&link)?, Node::Link(utf8(&path)?.to_string()))?;
                }
                path
            }
        };
        let (_, real) = self.mirror(&path)?;
        self.closure(&path, &real, who, rpath)?;
        Ok(true)
    }

    fn script(&mut self, data: &[u8], real: &Path, who: &str) -> Result<()> {
        let line = data[2..].split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace();
        let Some(interpreter) = words.next() else { return Ok(()) };
        let trouble = |what: &str| {
            let message =
                format!("{} is a script for {what}, which is not on this host", real.display());
            Diagnostic::trouble(message).help(format!(
                "install {what}, or take the execute permission off if it is only data"
            ))
        };
        // The guest's own /bin/sh serves every script, whatever shell is the host's.
        if self.tree.resolve(interpreter).is_none() {
            if !Path::new(interpreter).is_file() {
                return Err(trouble(interpreter));
            }
            self.executable(Path::new(interpreter), who)?;
        }
        if interpreter.ends_with("/env") {
            let program = words.find(|w| !w.starts_with('-') && !w.contains('='));
            if let Some(program) = program {
                if !self.programs.contains_key(program) && self.search.find(program).is_none() {
                    return Err(trouble(program));
                }
                self.program(program, who)?;
            }
        }
        Ok(())
    }

    /// What some of the programs read at run time.
    pub(super) fn companions(&mut self) -> Result<()> {
        let files: HashSet<String> = self
            .programs
            .values()
            .map(|place| place.rsplit('/').next().unwrap_or_default().to_string())
            .collect();
        for (_, paths) in recipe::COMPANIONS.iter().filter(|(program, _)| files.contains(*program))
        {
            for path in paths.iter().map(Path::new).filter(|path| path.is_file()) {
                self.mirror(path)?;
            }
        }
        Ok(())
    }
}
