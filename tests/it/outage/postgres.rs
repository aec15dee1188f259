//! Postgres away, in every way that it can be.

use std::{fs, path::Path};

use sqlx::{Connection, PgConnection};

use super::{CONSUME, Member, produced_on, small_disk::SmallDisk};
use crate::{
    proxy::Proxy,
    services::{Services, free_port},
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

/// Needs to mount a tmpfs, as root or with a `sudo` that asks for no password. Set
/// SLUICEGATE_NO_TMPFS=1 on a machine where neither is to be had; this is not tested there, and said
/// to be so.
#[test]
fn a_full_disk_is_waited_for() {
    let services = Services::up(&["postgres"]);
    let Some(disk) = SmallDisk::mount_for(&services.processes("postgres")[0]) else { return };
    let fixture = produced_on(services.addresses(), EVENTS);
    fixture.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.place().display()));
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

#[test]
fn prometheus_can_read_that_a_stream_waits_for_postgres() {
    let fixture = produced(EVENTS);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let address = format!("127.0.0.1:{}", free_port());
    let args = [&CONSUME[..], &["--sink-tasks", "1", "--metrics-listen", &address]].concat();
    let held = fixture.hold_at(EVENTS / 3);
    let mut running = fixture.start_with(&args, &[("DATABASE_URL", &url)]);
    fixture.wait_until_held();
    let waiting = |tasks| {
        let labels = format!("{{stream=\"{STREAM}\",dependency=\"Postgres\"}}");
        let line = format!("sluicegate_waiting_tasks{labels} {tasks}");
        fixture.metrics(&address).lines().any(|shown| shown == line)
    };
    proxy.cut();
    drop(held);
    running.wait_for("task that waits", || waiting(1));
    proxy.mend();
    fixture.wait_until(OFFSETS, |offsets| offsets == EVENTS);
    running.wait_for("end of that", || waiting(0));
    assert_eq!(running.terminate(), Some(0), "{}", running.log());
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
        self.runtime.block_on(sqlx::raw_sql(sql).execute(one)).unwrap();
    }
}
