//! A private Postgres: a cluster of its own in a temporary folder, reached over a socket in it, from
//! the programs that are on the machine.
//!
//! A shell is its parent, which ends it and deletes the folder when our end of a pipe is closed. That
//! is so however we end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use nix::unistd::{User, geteuid};
use sqlx::postgres::PgConnectOptions;

/// What the shell does.
const SCRIPT: &str = include_str!("postgres.sh");

/// Its user and its database.
const USER: &str = "sluicegate";
const DATABASE: &str = "postgres";

/// What is needed of it,
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// and what to do where it is missing.
const INSTALL: &str = "install it (Debian, Ubuntu: apt install postgresql; macOS: brew install \
                       postgresql@17), or name its folder with --postgres-programs";

/// Where distributions put the programs: folders that hold one a version, or one alone.
const PLACES: [&str; 5] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/local/pgsql/bin",
];

/// A cluster that runs until it is ended or dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    folder: PathBuf,
    programs: PathBuf,
    /// Whom it runs as, where that is not us.
    user: Option<String>,
    shell: Child,
    /// Until this is closed.
    alive: Option<ChildStdin>,
}

impl PrivatePostgres {
    /// Makes a cluster and starts it, with the newest programs that are found, or those in a folder.
    /// Root's runs as the user `postgres`, or as `nobody` where there is none.
    pub async fn start(programs: Option<&Path>) -> anyhow::Result<PrivatePostgres> {
        let programs = match programs {
            Some(folder) if has_programs(folder) => folder.to_owned(),
            Some(folder) => bail!("{} does not have {PROGRAMS:?}; {INSTALL}", folder.display()),
            None => find_programs()?,
        };
        let folder = tempfile::Builder::new()
            .prefix("sluicegate-demo-")
            .tempdir()
            .context("no temporary folder can be made")?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SCRIPT).arg("sluicegate-postgres").args([&*programs, folder.path()]);
        // not in our group: Ctrl-C is for us, who say when it ends
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        shell.current_dir(folder.path());
        let user = if geteuid().is_root() { Some(unprivileged()?) } else { None };
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .context("the temporary folder can't be given to another user")?;
            shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut shell = shell.spawn().context("no shell can be started for Postgres")?;
        let (alive, said) = (shell.stdin.take(), shell.stdout.take());
        // what fails from here on ends it
        let (folder, user) = (folder.keep(), user.map(|user| user.name));
        let postgres = PrivatePostgres { folder, programs, user, shell, alive };
        let first_line = move || said.and_then(|said| BufReader::new(said).lines().next());
        let first_line = tokio::task::spawn_blocking(first_line).await?.transpose()?;
        if first_line.as_deref() != Some("started") {
            let log = std::fs::read_to_string(postgres.folder.join("log")).unwrap_or_default();
            bail!("the private Postgres does not start: {}", log.trim());
        }
        Ok(postgres)
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new().socket(&self.folder).username(USER).database(DATABASE).port(5432)
    }

    /// Where it is, as DATABASE_URL has it, for our programs and for `psql`.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@localhost/{DATABASE}?host={}", self.folder.display())
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that starts what was kept.
    pub fn start_again(&self) -> String {
        let (programs, folder) = (self.programs.display(), self.folder.display());
        let become_user = self.user.as_ref().map(|user| format!("runuser -u {user} -- "));
        let become_user = become_user.unwrap_or_default();
        format!("{become_user}{programs}/pg_ctl -D {folder}/data -l {folder}/log start")
    }

    /// Ends it, and deletes its folder unless that is to be kept; returns once that is done.
    pub fn end(mut self, keep: bool) -> anyhow::Result<()> {
        if keep && let Some(alive) = &mut self.alive {
            alive.write_all(b"keep\n").context("the private Postgres is gone")?;
        }
        self.close(keep);
        if !keep && self.folder.exists() {
            bail!("{} can't be deleted; delete it", self.folder.display());
        }
        Ok(())
    }

    fn close(&mut self, keep: bool) {
        drop(self.alive.take());
        _ = self.shell.wait();
        // the folder that it is in may not be its user's
        if !keep && self.folder.exists() {
            _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if self.alive.is_some() {
            self.close(false);
        }
    }
}

/// Whom the server runs as where we are root, which it refuses to be.
fn unprivileged() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).context("users can't be looked up")? {
            return Ok(user);
        }
    }
    bail!("Postgres does not run as root, and there is neither a user \"postgres\" nor \"nobody\"")
}

/// The folder of `initdb` and `postgres`: that of the path, or the newest version's.
fn find_programs() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|folder| has_programs(folder));
    on_path
        .or_else(newest_installed)
        .ok_or_else(|| anyhow!("no Postgres server is installed; {INSTALL}"))
}

fn newest_installed() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = PLACES.iter().flat_map(|place| matching(place)).collect();
    found.retain(|folder| has_programs(folder));
    found.into_iter().max_by_key(|folder| version(folder))
}

/// The folders that a path with one `*` in one of its names may mean.
fn matching(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else { return vec![place.into()] };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let matching = names.filter(|name| name.starts_with(start));
    matching.map(|name| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|name| folder.join(name).is_file())
}

/// The number in a folder's path.
fn version(folder: &Path) -> u32 {
    let digits: String = folder.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_largest_number_not_the_last_name() {
        let newest = |names: [&str; 2]| {
            let all = names.map(|name| PathBuf::from(format!("/usr/lib/postgresql/{name}/bin")));
            all.into_iter().max_by_key(|folder| version(folder)).unwrap()
        };
        assert_eq!(newest(["9", "15"]), Path::new("/usr/lib/postgresql/15/bin"));
        assert_eq!(newest(["17", "16"]), Path::new("/usr/lib/postgresql/17/bin"));
    }

    #[test]
    fn folders_that_are_not_there_are_none() {
        assert_eq!(matching("/nowhere/at/all/*/bin"), Vec::<PathBuf>::new());
        assert_eq!(matching("/usr/local/pgsql/bin"), [PathBuf::from("/usr/local/pgsql/bin")]);
    }
}
