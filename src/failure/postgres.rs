//! What Postgres and sqlx say, sorted: SQLSTATEs as in PostgreSQL's appendix A.

use std::{borrow::Cow, io};

use anyhow::anyhow;
use sqlx::postgres::PgDatabaseError;

use super::{Failure, Kind, Rejection, Stage};
use crate::sql::said;

/// One class of SQLSTATEs (two characters), or one that is unlike its class (all five).
pub(super) struct Sqlstate {
    pub(super) code: &'static str,
    pub(super) kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/failures.md"))]
    pub(super) means: &'static str,
    /// What a person does; empty where nobody has to.
    pub(super) remedy: &'static str,
}

const MEND: &str = "mend that, and start again";
const MIGRATE: &str = "run `sluicegate migrate`, and start again";
const ADDRESS: &str = "correct DATABASE_URL, and start again";
const POOLER: &str = "connect to Postgres itself, or to a pooler in session mode, and start again";
const RESTORE: &str = "repair or restore the database, and start again";
const TRIGGER: &str = "mend the table's triggers and functions, and start again";
const REPORT: &str = "report it as a bug of Sluicegate's";

/// Every class of appendix A. A code is looked up whole first, then by its class; one that has
/// neither stops the stream, since neither waiting nor dropping is known to be right.
#[rustfmt::skip]
pub(super) const SQLSTATES: &[Sqlstate] = &[
    contract("00", "successful completion: no error", REPORT),
    contract("01", "warning: no error", REPORT),
    contract("02", "no data: no error", REPORT),
    contract("03", "SQL statement not yet complete", REPORT),
    dependency("08", "connection broken or refused"),
    contract("09", "triggered action exception", TRIGGER),
    contract("0A", "not supported by this server or for this table", MEND),
    contract("0B", "invalid transaction initiation", REPORT),
    contract("0F", "locator exception", REPORT),
    contract("0L", "invalid grantor", MEND),
    contract("0P", "invalid role", MEND),
    contract("0Z", "diagnostics exception in a trigger", TRIGGER),
    record("20", "a trigger's CASE has no branch for the row"),
    contract("21", "cardinality violation in a trigger or rule", TRIGGER),
    record("22", "a value that its type, a trigger or an index does not take"),
    contract("2200H", "a sequence has reached its end", "widen or restart the sequence, and start again"),
    contract("22P03", "binary data that a column's type does not take", MIGRATE),
    contract("22P04", "COPY data that a table's columns do not take", MIGRATE),
    record("23", "a constraint's violation"),
    contract("24", "invalid cursor state", TRIGGER),
    contract("25", "invalid transaction state", POOLER),
    dependency("25006", "read-only: a standby, or a server in maintenance"),
    dependency("25P03", "idle in a transaction for too long"),
    dependency("25P04", "in a transaction for too long"),
    contract("26", "prepared statement unknown", POOLER),
    contract("27", "triggered data change violation", TRIGGER),
    contract("28", "user, password or pg_hba.conf does not let us in", ADDRESS),
    contract("2B", "dependent privileges still exist", MEND),
    contract("2D", "invalid transaction termination", TRIGGER),
    contract("2F", "SQL routine exception in a trigger", TRIGGER),
    contract("34", "cursor unknown", TRIGGER),
    contract("38", "external routine exception in a trigger", TRIGGER),
    contract("39", "external routine invocation exception in a trigger", TRIGGER),
    contract("3B", "savepoint exception", POOLER),
    contract("3D", "no such database", ADDRESS),
    contract("3F", "no such schema", "correct the search_path of DATABASE_URL's user, and start again"),
    dependency("40", "rolled back: serialization failure, deadlock"),
    contract("40002", "rolled back for a constraint, and no row named", MEND),
    contract("42", "statement and tables do not fit", MIGRATE),
    contract("42501", "no privilege", "grant the privilege to the user of DATABASE_URL, and start again"),
    contract("42P05", "prepared statement exists already", POOLER),
    record("44", "WITH CHECK OPTION's violation"),
    dependency("53", "out of disk, memory or connections"),
    contract("53400", "a configured limit is exceeded", "raise the limit, and start again"),
    contract("54", "a statement is beyond a limit of Postgres's", MEND),
    record("54000", "a row or an index entry too large"),
    contract("55", "an object is not in the state it would have to be in", MEND),
    dependency("55006", "object in use"),
    dependency("55P03", "lock not available"),
    dependency("57", "operator intervention: shut down, restarted, cancelled, timed out"),
    contract("57P04", "the database was dropped", RESTORE),
    dependency("58", "system error outside Postgres, such as I/O"),
    contract("58P01", "a file of the server's is missing", RESTORE),
    contract("58P02", "a file of the server's exists already", RESTORE),
    dependency("72", "snapshot too old"),
    contract("F0", "the server's configuration file", MEND),
    contract("HV", "foreign data wrapper", MEND),
    dependency("HV00N", "a foreign server is away"),
    contract("P0", "PL/pgSQL error in a trigger", TRIGGER),
    record("P0001", "raised by a trigger"),
    record("P0002", "a trigger found no row"),
    record("P0003", "a trigger found too many rows"),
    dependency("XX", "internal error"),
    contract("XX001", "data corrupted", RESTORE),
    contract("XX002", "index corrupted", "REINDEX it, and start again"),
];

/// What one code means in one place of the server's source is told apart by that place's name.
pub(super) struct Routine {
    pub(super) name: &'static str,
    pub(super) entry: Sqlstate,
}

#[rustfmt::skip]
pub(super) const ROUTINES: &[Routine] = &[
    Routine { name: "RevalidateCachedQuery", entry: dependency("0A000", "the table changed under an open connection") },
    Routine { name: "GetNewTransactionId", entry: contract("54000", "the database is out of transaction ids", "vacuum it, and start again") },
    Routine { name: "GetNewMultiXactId", entry: contract("54000", "the database is out of multixact ids", "vacuum it, and start again") },
];

/// Where plpgsql's RAISE is; its ERRCODE may be any that a trigger's author made up.
const RAISE: &str = "exec_stmt_raise";

const fn record(code: &'static str, means: &'static str) -> Sqlstate {
    Sqlstate { code, kind: Kind::Record, means, remedy: "" }
}

const fn dependency(code: &'static str, means: &'static str) -> Sqlstate {
    Sqlstate { code, kind: Kind::Dependency, means, remedy: "" }
}

const fn contract(code: &'static str, means: &'static str, remedy: &'static str) -> Sqlstate {
    Sqlstate { code, kind: Kind::Contract, means, remedy }
}

const UNLISTED: Sqlstate = contract("", "a code that PostgreSQL's appendix A does not have", MEND);
const RAISED: Sqlstate = record("", "raised by a trigger with a code of its own");

/// The entry for a code that came from a routine of the server's.
pub(super) fn sqlstate(code: &str, routine: Option<&str>) -> &'static Sqlstate {
    let exact = |wanted: &str| SQLSTATES.iter().find(|entry| entry.code == wanted);
    let placed = ROUTINES.iter().find(|r| r.entry.code == code && routine == Some(r.name));
    placed
        .map(|placed| &placed.entry)
        .or_else(|| exact(code))
        .or_else(|| exact(code.get(..2)?))
        .unwrap_or(if routine == Some(RAISE) { &RAISED } else { &UNLISTED })
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        let sqlx::Error::Database(database) = &error else {
            let said = anyhow!(said(&error));
            return match client_error(&error) {
                (Kind::Contract, remedy) => Failure::Contract(anyhow!("{said}; {remedy}")),
                _ => Failure::Dependency(said),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        let said = format!("{} ({code})", database.message());
        let routine = database.try_downcast_ref::<PgDatabaseError>().and_then(|it| it.routine());
        let entry = sqlstate(&code, routine);
        match entry.kind {
            // Postgres's message names the constraint
            Kind::Record => {
                let rejection = Rejection::new(Stage::Land, refusal(&code), said);
                let server = database.try_downcast_ref::<PgDatabaseError>();
                Failure::Record(match server.and_then(place) {
                    Some(place) => rejection.about(place),
                    None => rejection,
                })
            }
            Kind::Dependency => Failure::Dependency(anyhow!("Postgres says: {said}")),
            Kind::Contract => Failure::Contract(anyhow!("Postgres says: {said}; {}", entry.remedy)),
        }
    }
}

/// The constraint or the column that a row is refused for. A trigger may say anything in their place.
fn place(error: &PgDatabaseError) -> Option<String> {
    if error.routine() == Some(RAISE) {
        return None;
    }
    let constraint = error.constraint().map(|name| format!("constraint \"{name}\""));
    constraint.or_else(|| error.column().map(|name| format!("column \"{name}\"")))
}

/// What sqlx says without the server: never about a record. An error that is not listed here
/// stops the stream, as an unknown SQLSTATE does.
pub(super) fn client_error(error: &sqlx::Error) -> (Kind, &'static str) {
    use sqlx::Error as E;
    match error {
        // what rustls refuses comes as invalid data: a certificate, or a server's alert
        E::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (Kind::Contract, "check the certificates and sslmode of DATABASE_URL, and start again")
        }
        // of a Unix socket
        E::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            (Kind::Contract, ADDRESS)
        }
        // a message cut short is told as a protocol error
        E::Io(_) | E::Protocol(_) => (Kind::Dependency, ""),
        E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => (Kind::Dependency, ""),
        // the server has no TLS, or a certificate's file is none
        E::Tls(_) => {
            (Kind::Contract, "check the certificates and sslmode of DATABASE_URL, and start again")
        }
        E::Configuration(_) | E::InvalidArgument(_) => (Kind::Contract, ADDRESS),
        // the fixed tables are not what the migrations made
        E::RowNotFound
        | E::TypeNotFound { .. }
        | E::ColumnIndexOutOfBounds { .. }
        | E::ColumnNotFound(_)
        | E::ColumnDecode { .. }
        | E::Decode(_) => (Kind::Contract, MIGRATE),
        E::Encode(_) | E::AnyDriverError(_) | E::InvalidSavePointStatement | E::BeginFailed => {
            (Kind::Contract, REPORT)
        }
        _ => (Kind::Contract, MEND),
    }
}

/// The reason code of a row that the table refuses.
fn refusal(code: &str) -> Cow<'static, str> {
    match code {
        "23502" => "not_null_violation".into(),
        "23503" => "foreign_key_violation".into(),
        "23505" => "unique_violation".into(),
        "23514" => "check_violation".into(),
        "23P01" => "exclusion_violation".into(),
        "P0001" => "raised_by_trigger".into(),
        other => format!("table_refused:{other}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str) -> Kind {
        sqlstate(code, None).kind
    }

    /// Every code of PostgreSQL's appendix A, from the server's `errcodes.txt`.
    fn appendix_a() -> Vec<&'static str> {
        include_str!("appendix_a.txt").lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn every_class_of_appendix_a_has_an_entry() {
        let codes = appendix_a();
        assert!(codes.len() > 250, "{}", codes.len());
        for code in codes {
            assert!(!sqlstate(code, None).code.is_empty(), "{code} is not decided");
        }
    }

    #[test]
    fn every_entry_stands_for_codes_that_exist_and_differs_from_its_class() {
        // of releases after the one whose list this is
        let newer = ["25P04"];
        let codes = appendix_a();
        for entry in SQLSTATES {
            let known = codes.iter().any(|code| code.starts_with(entry.code));
            assert!(known || newer.contains(&entry.code), "{} is no SQLSTATE", entry.code);
            let same = SQLSTATES.iter().filter(|other| other.code == entry.code);
            assert_eq!(same.count(), 1, "{} is there twice", entry.code);
            assert_eq!(entry.remedy.is_empty(), entry.kind != Kind::Contract, "{}", entry.code);
            if let Some(class) = entry.code.get(..2).filter(|class| *class != entry.code) {
                let class = SQLSTATES.iter().find(|entry| entry.code == class).unwrap();
                let as_class = (class.kind, class.remedy);
                assert_ne!((entry.kind, entry.remedy), as_class, "{} says nothing", entry.code);
            }
        }
    }

    #[test]
    fn a_code_is_sorted_by_itself_before_its_class() {
        use Kind::{Contract, Dependency, Record};
        for (code, expected) in [
            ("22003", Record),     // numeric value out of range
            ("22021", Record),     // character not in repertoire
            ("22P03", Contract),   // a column has another type
            ("2200H", Contract),   // a sequence is used up
            ("23502", Record),     // not null
            ("23505", Record),     // unique
            ("23514", Record),     // check
            ("44000", Record),     // with check option
            ("54000", Record),     // index row size
            ("P0001", Record),     // raise exception
            ("P0004", Contract),   // an assertion in a trigger
            ("08006", Dependency), // connection failure
            ("25006", Dependency), // read only
            ("25P02", Contract),   // a statement after one that failed
            ("40001", Dependency), // serialization failure
            ("40P01", Dependency), // deadlock
            ("53100", Dependency), // disk full
            ("53300", Dependency), // too many connections
            ("53400", Contract),   // temp_file_limit
            ("54001", Contract),   // stack depth
            ("55000", Contract),   // not in prerequisite state
            ("55P02", Contract),   // can't change a run-time parameter
            ("55P03", Dependency), // lock not available
            ("57014", Dependency), // query cancelled
            ("57P01", Dependency), // admin shutdown
            ("57P03", Dependency), // cannot connect now
            ("57P04", Contract),   // database dropped
            ("58030", Dependency), // i/o error
            ("58P01", Contract),   // a file is missing
            ("28000", Contract),   // no entry in pg_hba.conf
            ("28P01", Contract),   // wrong password
            ("3D000", Contract),   // no such database
            ("42501", Contract),   // no privilege
            ("42703", Contract),   // no such column
            ("42P01", Contract),   // no such table
            ("0A000", Contract),   // not supported
            ("XX000", Dependency), // internal
            ("XX001", Contract),   // corrupted
            ("ZZ999", Contract),
            ("é", Contract),
            ("", Contract),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn the_place_in_the_server_tells_one_code_from_another() {
        use Kind::{Contract, Dependency, Record};
        for (code, routine, expected) in [
            ("0A000", "RevalidateCachedQuery", Dependency),
            ("54000", "GetNewTransactionId", Contract),
            ("54000", "index_form_tuple_context", Record),
            ("45000", "exec_stmt_raise", Record),
            ("45000", "elsewhere", Contract),
            // a listed code stays what it is, whoever raises it
            ("53100", "exec_stmt_raise", Dependency),
        ] {
            assert_eq!(sqlstate(code, Some(routine)).kind, expected, "{code} in {routine}");
        }
    }

    #[test]
    fn what_sqlx_says_by_itself_is_sorted() {
        use Kind::{Contract, Dependency};
        use sqlx::Error as E;
        let io = |kind: io::ErrorKind| E::Io(kind.into());
        let boxed = || -> Box<dyn std::error::Error + Send + Sync> { "x".into() };
        for (error, expected) in [
            (io(io::ErrorKind::ConnectionReset), Dependency),
            (io(io::ErrorKind::ConnectionRefused), Dependency),
            (io(io::ErrorKind::UnexpectedEof), Dependency),
            (io(io::ErrorKind::TimedOut), Dependency),
            (io(io::ErrorKind::NotFound), Dependency), // the socket of a server that is stopped
            (io(io::ErrorKind::InvalidData), Contract), // a certificate
            (io(io::ErrorKind::PermissionDenied), Contract),
            (E::Tls("server does not support TLS".into()), Contract),
            (E::Protocol("cut short".into()), Dependency),
            (E::PoolTimedOut, Dependency),
            (E::PoolClosed, Dependency),
            (E::WorkerCrashed, Dependency),
            (E::Configuration(boxed()), Contract),
            (E::InvalidArgument("x".into()), Contract),
            (E::RowNotFound, Contract),
            (E::TypeNotFound { type_name: "x".into() }, Contract),
            (E::ColumnIndexOutOfBounds { index: 1, len: 1 }, Contract),
            (E::ColumnNotFound("x".into()), Contract),
            (E::ColumnDecode { index: "x".into(), source: boxed() }, Contract),
            (E::Decode(boxed()), Contract),
            (E::Encode(boxed()), Contract),
            (E::AnyDriverError(boxed()), Contract),
            (E::InvalidSavePointStatement, Contract),
            (E::BeginFailed, Contract),
        ] {
            assert_eq!(client_error(&error).0, expected, "{error}");
            let failure = Failure::from(error);
            assert_eq!(matches!(failure, Failure::Dependency(_)), expected == Dependency);
        }
    }
}
