//! A private Postgres: a cluster of its own in a temporary folder, reached over a socket in it, from
//! the programs that are on the machine.
//!
//! A shell is its parent, which ends it and deletes the folder when our end of a pipe is closed. That
//! is so however we end.

use std::{
    ffi::OsStr,
    fs::Permissions,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use nix::unistd::{User, geteuid};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// What the shell does.
const SCRIPT: &str = include_str!("postgres.sh");

/// How long the path of a temporary folder may be: a socket's has at most 103 bytes on some systems.
const LONGEST_PATH: usize = 60;

/// The oldest version that will do.
const OLDEST: u32 = 15;

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

/// A cluster that runs until it is dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    folder: PathBuf,
    programs: PathBuf,
    /// Whom it runs as, where that is not us.
    user: Option<User>,
    /// Whether the folder is to stay, also when we are killed.
    keep: bool,
    shell: Child,
    /// Until this is closed.
    alive: Option<ChildStdin>,
}

impl PrivatePostgres {
    /// Makes a cluster and starts it, with the newest programs that are found, or those in a folder.
    /// Root's runs as the user `postgres`, or as `nobody` where there is none. Its folder stays when it
    /// has ended if it is to be kept.
    pub async fn start(programs: Option<&Path>, keep: bool) -> anyhow::Result<PrivatePostgres> {
        let programs = match programs {
            Some(folder) if has_programs(folder) => folder.to_owned(),
            Some(folder) => bail!("{} does not have {PROGRAMS:?}; {INSTALL}", folder.display()),
            None => find_programs()?,
        };
        // it is called from elsewhere, too
        let programs = std::path::absolute(programs)?;
        let user = if geteuid().is_root() { Some(unprivileged()?) } else { None };
        // nobody else gets in: whoever reaches the socket may do all that the user may
        let folder = tempfile::Builder::new()
            .prefix("sluicegate-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(temporary_folder())
            .context("no temporary folder can be made")?;
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .context("the temporary folder can't be given to another user")?;
        }
        let mut command = as_user("sh", user.as_ref());
        command.arg("-c").arg(SCRIPT).arg("sluicegate-postgres").args([&*programs, folder.path()]);
        command.current_dir(folder.path());
        let mut shell =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| {
                let user = user.as_ref().map_or("us", |user| &user.name);
                let folder = folder.path().display();
                format!("no shell can be started in {folder} for Postgres as {user}; set TMPDIR")
            })?;
        let (alive, said) = (shell.stdin.take(), shell.stdout.take());
        let folder = folder.keep();
        // what fails from here on ends it
        let mut postgres = PrivatePostgres { folder, programs, user, keep: false, shell, alive };
        let first_line = move || said.and_then(|said| BufReader::new(said).lines().next());
        let first_line = tokio::task::spawn_blocking(first_line).await?.transpose()?;
        if first_line.as_deref() != Some("1") {
            let log = std::fs::read_to_string(postgres.folder.join("log")).unwrap_or_default();
            bail!("the private Postgres does not start: {}", log.trim());
        }
        if let Some(alive) = postgres.alive.as_mut().filter(|_| keep) {
            alive.write_all(b"keep\n").context("the private Postgres has ended")?;
            postgres.keep = true;
        }
        Ok(postgres)
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        // the environment may say something else, of another database
        let options = PgConnectOptions::new().socket(&self.folder).port(5432);
        let options = options.username(USER).database(DATABASE).ssl_mode(PgSslMode::Disable);
        options.options([("search_path", "public")])
    }

    /// Where it is, as DATABASE_URL has it, for our programs and for `psql`.
    pub fn url(&self) -> String {
        let folder = self.folder.display();
        format!("postgres://{USER}@localhost:5432/{DATABASE}?sslmode=disable&host={folder}")
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that starts what was kept.
    pub fn start_again(&self) -> String {
        let (programs, folder) = (self.programs.display(), self.folder.display());
        let become_user = self.user.as_ref().map(|user| format!("runuser -u {} -- ", user.name));
        let become_user = become_user.unwrap_or_default();
        format!("{become_user}{programs}/pg_ctl -D {folder}/data -l {folder}/log start")
    }
}

/// Returns once it has ended, and its folder is gone unless it is to be kept.
impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        drop(self.alive.take());
        _ = self.shell.wait();
        // somebody may have ended the shell before
        if self.folder.join("data/postmaster.pid").exists() {
            let mut stop = as_user(self.programs.join("pg_ctl"), self.user.as_ref());
            let stop =
                stop.arg("-D").arg(self.folder.join("data")).args(["-m", "fast", "-w", "stop"]);
            _ = stop.current_dir("/").stdout(Stdio::null()).status();
        }
        // the folder that it is in may not be its user's
        if !self.keep && self.folder.exists() {
            _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A command that runs as another user, if there is one. It is not in our group, for Ctrl-C is for us, who
/// say when it ends; and what the environment says to Postgres is of another database.
fn as_user(program: impl AsRef<OsStr>, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Where the folder is made: where temporary ones are, unless a socket in it, or the settings, can't have
/// such a path.
fn temporary_folder() -> PathBuf {
    let usual = std::env::temp_dir();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let fits =
        usual.as_os_str().len() <= LONGEST_PATH && usual.to_string_lossy().bytes().all(plain);
    if fits { usual } else { PathBuf::from("/tmp") }
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

/// The folder of the programs: that of the path, or the newest version's.
fn find_programs() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|folder| has_programs(folder));
    let found = on_path.or_else(newest_installed);
    found.ok_or_else(|| {
        anyhow!("no Postgres server of version {OLDEST} or later is installed; {INSTALL}")
    })
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

/// Whether they are there, and not too old.
fn has_programs(folder: &Path) -> bool {
    let is_there = PROGRAMS.iter().all(|name| folder.join(name).is_file());
    let version = || Command::new(folder.join("postgres")).arg("--version").output();
    is_there
        && version().is_ok_and(|output| number(&String::from_utf8_lossy(&output.stdout)) >= OLDEST)
}

/// The version that a folder of one is named after.
fn version(folder: &Path) -> u32 {
    let names = folder.components().map(|name| number(&name.as_os_str().to_string_lossy()));
    names.max().unwrap_or_default()
}

/// The first number in a text, up to what is no digit; 0 where there is none.
fn number(text: &str) -> u32 {
    let digits = text.chars().skip_while(|character| !character.is_ascii_digit());
    digits.take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_largest_number_not_the_last_name() {
        let newest = |names: [&str; 3]| {
            let all = names.map(|name| PathBuf::from(format!("{name}/bin")));
            all.into_iter().max_by_key(|folder| version(folder)).unwrap()
        };
        let debian = ["9.6", "15", "17"].map(|name| format!("/usr/lib/postgresql/{name}"));
        assert_eq!(
            newest(debian.each_ref().map(|name| &**name)),
            Path::new("/usr/lib/postgresql/17/bin")
        );
        let homebrew = ["opt/postgresql@9.6", "opt/postgresql@16", "opt/postgresql"];
        assert_eq!(newest(homebrew), Path::new("opt/postgresql@16/bin"));
    }

    #[test]
    fn a_version_is_read_from_what_postgres_says() {
        assert_eq!(number("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), 15);
        assert_eq!(number("postgres (PostgreSQL) 18beta1"), 18);
        assert_eq!(number("nothing"), 0);
    }

    #[test]
    fn folders_that_are_not_there_are_none() {
        assert_eq!(matching("/nowhere/at/all/*/bin"), Vec::<PathBuf>::new());
        assert_eq!(matching("/usr/local/pgsql/bin"), [PathBuf::from("/usr/local/pgsql/bin")]);
    }
}
