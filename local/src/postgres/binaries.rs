//! Where Postgres' server programs are: `TIDEGATE_PG_BIN`, else what `pg_config`
//! says, `PATH`, or the newest below `/usr/lib/postgresql`, where Debian keeps them
//! out of `PATH`. Called by [`super::Server::start`].

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// The oldest release that is used.
const AT_LEAST: u32 = 14;

/// Why there are no programs to start.
#[derive(Debug, Error)]
pub enum Missing {
    /// Nowhere.
    #[error(
        "no PostgreSQL server (initdb and postgres, {AT_LEAST} or newer) on this machine{}.\n\
         Install it: apt-get install postgresql\n\
         Or name the directory of these programs in TIDEGATE_PG_BIN",
        found(.older)
    )]
    Nowhere {
        /// What was found and is too old.
        older: Vec<Binaries>,
    },
    /// Not where the variable says.
    #[error(
        "TIDEGATE_PG_BIN is {}: no initdb and postgres, {AT_LEAST} or newer, there",
        .0.display()
    )]
    NotThere(PathBuf),
}

fn found(older: &[Binaries]) -> String {
    let older = older.iter();
    let words = older.map(|b| format!("; found {} in {}", b.major, b.directory.display()));
    words.collect()
}

/// A directory with `initdb` and `postgres` of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// Looks for them.
    ///
    /// # Errors
    /// When there are none, with what to install.
    pub fn find() -> Result<Self, Missing> {
        if let Some(given) = std::env::var_os("TIDEGATE_PG_BIN") {
            let directory = PathBuf::from(given);
            let found = Self::at(&directory).filter(Self::is_new_enough);
            return found.ok_or(Missing::NotThere(directory));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::first_of(
            told_by_pg_config()
                .into_iter()
                .chain(std::env::split_paths(&path))
                .chain(debian(Path::new("/usr/lib/postgresql"))),
        )
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The first number of the release: 15 of 15.14.
    pub fn major(&self) -> u32 {
        self.major
    }

    fn first_of(candidates: impl Iterator<Item = PathBuf>) -> Result<Self, Missing> {
        let mut older = Vec::new();
        for found in candidates.filter_map(|directory| Self::at(&directory)) {
            if found.is_new_enough() {
                return Ok(found);
            }
            older.push(found);
        }
        Err(Missing::Nowhere { older })
    }

    fn at(directory: &Path) -> Option<Self> {
        if !directory.join("initdb").is_file() {
            return None;
        }
        let mut version = Command::new(directory.join("postgres"));
        let major = major(&output(version.arg("--version"))?)?;
        Some(Self {
            directory: directory.to_owned(),
            major,
        })
    }

    fn is_new_enough(&self) -> bool {
        self.major >= AT_LEAST
    }
}

fn told_by_pg_config() -> Option<PathBuf> {
    output(Command::new("pg_config").arg("--bindir")).map(|text| PathBuf::from(text.trim()))
}

/// The directories of Debian's releases, newest first.
fn debian(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let number = |name: OsString| name.to_str()?.parse::<u32>().ok();
    let mut releases: Vec<u32> = entries.filter_map(|e| number(e.file_name())).collect();
    releases.sort_unstable_by(|a, b| b.cmp(a));
    let bin = |release| root.join(format!("{release}")).join("bin");
    releases.into_iter().map(bin).collect()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// 15 of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, 18 of `18beta1`.
fn major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    let end = number.find(|c: char| !c.is_ascii_digit());
    number.get(..end.unwrap_or(number.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_release_is_read_from_what_postgres_says() {
        for (said, expected) in [
            (
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 14", Some(14)),
            ("mysqld 8.0", None),
            ("(PostgreSQL) x", None),
        ] {
            assert_eq!(major(said), expected, "{said}");
        }
    }

    #[test]
    fn missing_programs_are_told_with_the_line_that_installs_them() {
        let nothing = tempfile::tempdir().unwrap();
        let error = Binaries::first_of([nothing.path().to_owned()].into_iter()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("apt-get install postgresql"), "{text}");
        assert!(text.contains("TIDEGATE_PG_BIN"), "{text}");
    }

    #[test]
    fn what_is_too_old_is_passed_over_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let old = release(directory.path(), "13", "13.4");
        let text = Binaries::first_of([old.clone()].into_iter()).unwrap_err();
        assert!(text.to_string().contains("found 13 in "), "{text}");
        let new = release(directory.path(), "15", "15.1");
        let found = Binaries::first_of([old, new.clone()].into_iter()).unwrap();
        assert_eq!(found.program("initdb"), new.join("initdb"));
    }

    #[test]
    fn the_newest_of_debian_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["9.6", "15", "9", "17", "common"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let expected = ["17", "15", "9"].map(|r| directory.path().join(r).join("bin"));
        assert_eq!(debian(directory.path()), expected);
    }

    /// Programs that only tell their version.
    fn release(root: &Path, name: &str, version: &str) -> PathBuf {
        let bin = root.join(name);
        fs::create_dir(&bin).unwrap();
        for program in ["initdb", "postgres"] {
            let path = bin.join(program);
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n");
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }
}
