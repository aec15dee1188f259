//! Postgres away, in every way that it can be.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use super::{Member, produced_on};
use crate::{
    proxy::Proxy,
    services::Services,
    support::{Addresses, Fixture, poll, variable},
    telemetry::{OFFSETS, STREAM, produced},
};

/// So many events, of which a third have landed when Postgres goes away.
const EVENTS: i64 = 3_000;

#[test]
fn a_postgres_that_is_stopped_and_started_costs_nothing() {
    let services = Services::up(&["postgres"]);
    let stop = || services.stop(&["postgres"]);
    goes_and_comes_back(services.addresses(), stop, || services.start(&["postgres"]));
}

#[test]
fn a_postgres_that_is_killed_and_started_costs_nothing() {
    let services = Services::up(&["postgres"]);
    let kill = || services.kill("postgres");
    goes_and_comes_back(services.addresses(), kill, || services.start(&["postgres"]));
}

/// A consumer at work when Postgres breaks, for longer than the group waits for one that does not poll.
fn goes_and_comes_back(addresses: Addresses, breaks: impl Fn(), mends: impl Fn()) {
    let fixture = produced_on(addresses, EVENTS);
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    breaks();
    drop(held);
    member.running.wait_for_log("waiting for Postgres");
    member.outlasts_max_poll_interval();
    mends();
    member.lands_everything();
}

#[test]
fn a_postgres_that_hangs_for_a_while_costs_nothing() {
    let services = Services::up(&["postgres"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    services.freeze("postgres");
    drop(held);
    member.outlasts_max_poll_interval();
    services.thaw("postgres");
    member.lands_everything();
}

#[test]
fn a_postgres_that_is_read_only_is_waited_for() {
    let services = Services::up(&["postgres"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    fixture.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    fixture.sql("SELECT pg_reload_conf()");
    drop(held);
    member.running.wait_for_log("(25006)");
    member.outlasts_max_poll_interval();
    fixture.sql("ALTER SYSTEM RESET default_transaction_read_only");
    fixture.sql("SELECT pg_reload_conf()");
    member.lands_everything();
}

#[test]
fn a_postgres_without_a_free_connection_is_waited_for() {
    let services = Services::up(&["postgres"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    let mut others = Others::of(&fixture);
    others.take_every_connection();
    drop(held);
    let refused = poll(|| {
        // the program may be quicker to connect again than the others
        others.end_all_but_their_own();
        others.take_every_connection();
        member.running.log().contains("(53300)").then_some(())
    });
    assert!(refused.is_some(), "{}", member.running.log());
    member.outlasts_max_poll_interval();
    drop(others);
    member.lands_everything();
}

#[test]
fn a_full_disk_is_waited_for() {
    let Some(disk) = SmallDisk::mount() else { return };
    let services = Services::up(&["postgres"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let place = disk.tablespace(&data_directory(&fixture));
    fixture.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    fixture.sql(&format!("ALTER TABLE {STREAM} SET TABLESPACE small"));
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    disk.fill();
    drop(held);
    member.running.wait_for_log("(53100)");
    member.outlasts_max_poll_interval();
    disk.free();
    member.lands_everything();
}

#[test]
fn a_lock_that_somebody_holds_is_waited_for() {
    let fixture = produced(EVENTS);
    let url = format!("{}?options=-c%20lock_timeout%3D500ms", variable("DATABASE_URL"));
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[("DATABASE_URL", &url)]);
    member.running.wait_for_log("(55P03)");
    member.outlasts_max_poll_interval();
    drop(held);
    member.lands_everything();
}

#[test]
fn a_session_that_an_administrator_cancels_or_ends_leaves_nothing_half_done() {
    let fixture = produced(EVENTS);
    let (mut member, held) = Member::held_at(&fixture, EVENTS / 3, &[]);
    for (ends, says) in [("pg_cancel_backend", "(57014)"), ("pg_terminate_backend", "(57P01)")] {
        fixture.wait_until_held();
        fixture.sql(&format!(
            "SELECT {ends}(pid) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted"
        ));
        member.running.wait_for_log(says);
    }
    drop(held);
    member.lands_everything();
}

#[test]
fn a_network_that_is_cut_again_and_again_costs_nothing() {
    let events = 10_000;
    let fixture = produced(events);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let moments = [10, 30, 60].map(|percent| events * percent / 100);
    let (mut member, held) = Member::held_at(&fixture, moments[0], &[("DATABASE_URL", &url)]);
    let mut held = Some(held);
    for (number, moment) in (1..).zip(moments) {
        fixture.wait_until_held();
        let before = proxy.refused();
        proxy.cut();
        let landed = fixture.number(OFFSETS);
        assert!((moment..events).contains(&landed), "it went away after {landed}");
        member.running.wait_for("the database to be asked", || proxy.refused() > before + 2);
        drop(held.take());
        held = moments.get(number).map(|next| fixture.hold_at(*next));
        proxy.mend();
    }
    assert!(member.running.log().contains("waiting for Postgres"), "{}", member.running.log());
    member.lands_everything();
}

/// Where a Postgres keeps its files.
fn data_directory(fixture: &Fixture) -> String {
    let at = &fixture.rows("SELECT current_setting('data_directory') AS at")[0]["at"];
    at.as_str().unwrap().to_owned()
}

/// Other users of a Postgres.
struct Others {
    runtime: tokio::runtime::Runtime,
    url: String,
    connections: Vec<PgConnection>,
}

impl Others {
    /// Without passwords from here on: two hundred of them are a debug build's half a minute.
    fn of(fixture: &Fixture) -> Others {
        let access = Path::new(&data_directory(fixture)).join("pg_hba.conf");
        fs::write(access, "host all all 127.0.0.1/32 trust").unwrap();
        fixture.sql("SELECT pg_reload_conf()");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let url = fixture.address("DATABASE_URL").to_owned();
        Others { runtime, url, connections: Vec::new() }
    }

    /// Connects until Postgres has no room for one more.
    fn take_every_connection(&mut self) {
        while let Ok(one) = self.runtime.block_on(PgConnection::connect(&self.url)) {
            self.connections.push(one);
        }
    }

    /// Ends every session but these.
    fn end_all_but_their_own(&mut self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name LIKE 'sluicegate %'";
        let one = self.connections.first_mut().unwrap();
        self.runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql)).execute(one)).unwrap();
    }
}

/// A file system of a few megabytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None, said loudly, where nobody may mount one; CI may.
    fn mount() -> Option<SmallDisk> {
        let root = TempDir::new().unwrap();
        let args = ["-t", "tmpfs", "-o", "size=16m,mode=755", "sluicegate-test"];
        let mounted = Command::new("mount").args(args).arg(root.path()).output().unwrap();
        if mounted.status.success() {
            return Some(SmallDisk(root));
        }
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(std::env::var_os("CI").is_none(), "CI can't mount a tmpfs: {said}");
        eprintln!("NOT TESTED: a full disk, for want of a small one: {said}");
        None
    }

    /// A directory for a tablespace, of the user who runs Postgres.
    fn tablespace(&self, data_directory: &str) -> PathBuf {
        let user = fs::metadata(data_directory).unwrap();
        let place = self.0.path().join("tablespace");
        fs::create_dir(&place).unwrap();
        chown(&place, Some(user.uid()), Some(user.gid())).unwrap();
        place
    }

    /// Leaves no room on it.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let full = std::iter::repeat_with(|| filler.write_all(&[0; 4096])).find_map(Result::err);
        assert_eq!(full.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    /// Makes room again.
    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
