//! A person can find a dead letter, see all of it, and be told why it is one.

use std::process::Stdio;

use serde_json::{Value as Json, json};
use sluicegate::wire::{SchemaId, frame};

use crate::{
    avro::{double, id, long, reading, string},
    support::{Fixture, ended, framed, readings},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// Nothing listens here.
const NOWHERE: &str = "http://127.0.0.1:1";

/// What a screen shows, which fits a terminal.
fn screen(fixture: &Fixture, args: &[&str]) -> String {
    let text = fixture.run(&[&["dlq"], args].concat()).success();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text.replace(&fixture.prefix, "[prefix]")
}

/// Until what this gives is dropped, snapshots have no moments, letters' numbers and schemas' ids in them.
fn alike() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "[moment]");
    settings.add_filter(r"schema id( +)\d+", "schema id$1[id]");
    settings.add_filter(r"schemas/ids/\d+", "schemas/ids/[id]");
    settings.add_filter(r"letter( +)\d+", "letter$1[letter]");
    let header = r"(?m)^( *00000000  00)( [0-9a-f]{2}){4}( .*)\|.{5}";
    settings.add_filter(header, "$1 [ schema id]$3|.....");
    settings.bind_to_scope()
}

/// One letter of every kind; gives the id of our schema.
fn letters() -> (Fixture, u32) {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("ALTER TABLE readings ADD CONSTRAINT is_possible CHECK (value < 1000)");
    let topic = fixture.topic();
    let ours = fixture.schema_id(&topic);
    let whole = reading(ours, &id(1), NOON, 1.5).unwrap();
    // no other test has this schema
    let incompatible = json!({"type": "record", "name": "Reading", "namespace": "test", "doc": fixture.prefix, "fields": [
        {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "device", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "value", "type": "string"},
        {"name": "firmware", "type": "string"},
    ]});
    let theirs = fixture.register("theirs-value", &incompatible, "AVRO");
    let event =
        json!({"event_id": id(3), "device": "d3", "ts": NOON, "value": "high", "firmware": "2.1"});
    let foreign = [string(id(3)), string("d3"), long(NOON), string("high"), string("2.1")].concat();
    assert_eq!(framed(theirs, &incompatible, event).len(), foreign.len() + 5);
    let no_text = [string(id(6)), string([0xff, 0xfe]), long(NOON), double(1.0)].concat();
    let values = [
        Some(whole[..whole.len() - 3].to_vec()),
        Some(frame(SchemaId(2_000_000_000), &whole[5..])),
        Some(frame(SchemaId(theirs), &foreign)),
        reading(ours, &id(4), NOON, -1.5),
        reading(ours, &id(5), NOON, 5_000.0),
        Some(frame(SchemaId(ours), &no_text)),
        Some(b"{\"value\": 1}".to_vec()),
        None,
    ];
    fixture.send_values(&topic, &values);
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events"), 8);
    (fixture, ours)
}

/// The number of the letter with a reason.
fn number(fixture: &Fixture, reason: &str) -> String {
    fixture.number(&format!("SELECT id FROM dlq_events WHERE reason = '{reason}'")).to_string()
}

#[test]
fn every_dead_letter_can_be_listed_counted_and_shown() {
    let (fixture, ours) = letters();
    let _bound = alike();
    let ids = "UPDATE dlq_events SET status = 'parked' WHERE reason = 'tombstone'";
    fixture.sql(ids);
    fixture.sql(
        "INSERT INTO dlq_history (letter_id, who, action, note) \
         SELECT id, 'ann', 'parked', 'ask the vendor' FROM dlq_events WHERE reason = 'tombstone'",
    );
    insta::assert_snapshot!(in_order(&screen(&fixture, &["list"])), @r#"
    seen              stream    at   reason: detail
    [moment]  readings  0@0  truncated_body: the body ends before the e…
    [moment]  readings  0@1  unknown_schema_id: the schema registry kno…
    [moment]  readings  0@2  incompatible_schema: "value": written as s…
    [moment]  readings  0@3  rule:value_is_positive: does not hold: mes…
    [moment]  readings  0@4  check_violation: new row for relation "rea…
    [moment]  readings  0@5  invalid_utf8: a string is not UTF-8
    [moment]  readings  0@6  bad_magic_byte: the value begins with byte…
    [moment]  readings  0@7  (parked) tombstone: the record is a tombst…
    "#);
    insta::assert_snapshot!(screen(&fixture, &["stats"]), @"
    last seen         count  stream    stage   reason
    [moment]      1  readings  check   rule:value_is_positive
    [moment]      1  readings  decode  incompatible_schema
    [moment]      1  readings  decode  invalid_utf8
    [moment]      1  readings  decode  truncated_body
    [moment]      1  readings  decode  unknown_schema_id
    [moment]      1  readings  land    check_violation
    [moment]      1  readings  wire    bad_magic_byte
    [moment]      1  readings  wire    (parked) tombstone
    8 dead letters
    ");
    insta::assert_snapshot!(screen(&fixture, &["stats", "--by", "hour", "--stage", "land"]), @"
    hour              count  stream    stage  reason
    [moment]      1  readings  land   check_violation
    ");
    let counts = fixture.run(&["dlq", "stats", "--json", "--stage", "wire"]).success();
    let counts: Vec<Json> = serde_json::from_str(&counts).unwrap();
    assert_eq!(counts.len(), 2);
    assert!(counts.iter().all(|count| count["count"] == 1 && count["stream"] == "readings"));

    let shown = screen(&fixture, &["show", &number(&fixture, "rule:value_is_positive")]);
    assert!(shown.contains(&format!("schema id   {ours}\n")), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 3
    reason      rule:value_is_positive (check)
    detail      does not hold: message.value >= 0.0
    written     [moment]
    happened    [moment]
    seen        [moment]
    tried       once, replayed in vain 0 times
    schema id   [id]
    event id    00000000-0000-0000-0000-000000000004
    key         none
    payload     59 bytes
    00000000  00 [ schema id] 48 30 30  30 30 30 30 30 30 2d 30  |.....H00000000-0|
    00000010  30 30 30 2d 30 30 30 30  2d 30 30 30 30 2d 30 30  |000-0000-0000-00|
    00000020  30 30 30 30 30 30 30 30  30 34 04 64 31 80 d8 c7  |0000000004.d1...|
    00000030  b6 bc 67 00 00 00 00 00  00 f8 bf                 |..g........|
    event
    {
      "device": "d1",
      "event_id": "00000000-0000-0000-0000-000000000004",
      "ts": "2026-05-01T12:00:00Z",
      "value": -1.5
    }
    history     none
    "#);
    insta::assert_snapshot!(screen(&fixture, &["show", &number(&fixture, "tombstone")]), @"
    letter      [letter], parked
    stream      readings
    record      [prefix].readings, partition 0, offset 7
    reason      tombstone (wire)
    detail      the record is a tombstone: it has no value
    written     [moment]
    happened    [moment]
    seen        [moment]
    tried       once, replayed in vain 0 times
    schema id   none
    event id    unknown
    key         none
    payload     none: a tombstone
    event       none: it could not be decoded
    history     [moment] parked by ann: ask the vendor
    ");
    let shown =
        fixture.run(&["dlq", "show", "--json", &number(&fixture, "truncated_body")]).success();
    let shown: Json = serde_json::from_str(&shown).unwrap();
    let payload = fixture.rows(
        "SELECT encode(payload, 'hex') AS hex FROM dlq_events WHERE reason = 'truncated_body'",
    );
    assert_eq!(shown["payload"], payload[0]["hex"]);
    let missing = fixture.run(&["dlq", "show", "999"]).one_clear_error();
    assert_eq!(
        missing,
        "error: there is no dead letter 999; `sluicegate dlq list` lists those there are"
    );
}

/// Letters of one batch have their numbers in no order that matters.
fn in_order(list: &str) -> String {
    let place = |line: &str| line.split('@').nth(1).map(str::to_owned);
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_by_key(|line| place(line));
    let numbered =
        |line: &&str| line.split_once("  ").map(|(_, rest)| rest.trim_start().to_owned()).unwrap();
    lines.iter().map(numbered).collect::<Vec<_>>().join("\n")
}

#[test]
fn filters_say_which_letters_are_meant() {
    let (fixture, ours) = letters();
    fixture.send(&fixture.topic(), Some(b"d-17"), Some(b"\xff"));
    fixture.drain();
    let listed = |args: &[&str]| {
        let list = fixture.run(&[&["dlq", "list", "--json"], args].concat()).success();
        let reason = |line: &str| {
            let letter: Json = serde_json::from_str(line).unwrap();
            letter["reason"].as_str().unwrap().to_owned()
        };
        let mut reasons: Vec<String> = list.lines().map(reason).collect();
        reasons.sort();
        reasons.join(" ")
    };
    let ours = ours.to_string();
    let rule = number(&fixture, "rule:value_is_positive");
    let all = "bad_magic_byte bad_magic_byte check_violation incompatible_schema invalid_utf8 \
               rule:value_is_positive tombstone truncated_body unknown_schema_id";
    for (args, expected) in [
        (&[][..], all),
        (&["--stream", "readings", "--stream", "others"], all),
        (&["--stream", "others"], ""),
        (&["--stage", "check", "--stage", "land"], "check_violation rule:value_is_positive"),
        (&["--reason", "tombstone"], "tombstone"),
        (&["--rule", "value_is_positive"], "rule:value_is_positive"),
        (&["--id", &rule], "rule:value_is_positive"),
        (&["--schema-id", &ours, "--stage", "decode"], "invalid_utf8 truncated_body"),
        (&["--key", "d-17"], "bad_magic_byte"),
        (&["--since", "1h"], all),
        (&["--until", "1h"], ""),
        (&["--since", "2026-05-01T12:00:00Z", "--until", "2026-05-01T12:00:00Z"], ""),
        (&["--status", "parked", "--status", "discarded"], ""),
        (&["--status", "pending"], all),
    ] {
        assert_eq!(listed(args), expected, "{args:?}");
    }
    for wrong in [&["--stage", "nowhere"][..], &["--since", "soon"], &["--status", "lost"]] {
        assert_eq!(fixture.run(&[&["dlq", "list"], wrong].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn pages_miss_and_repeat_nothing_while_new_letters_arrive() {
    let fixture = Fixture::with_stream(readings());
    let arrive = |from: u32, count: u32| {
        fixture.sql(&format!(
            "INSERT INTO dlq_events (stream, topic, partition, \"offset\", payload, stage, reason, detail) \
             SELECT 'readings', 't', 0, {from} + n, '\\xff', 'wire', 'bad_magic_byte', repeat('long ', 50) \
             FROM generate_series(1, {count}) AS n"
        ));
    };
    arrive(0, 230);
    let mut seen: Vec<i64> = Vec::new();
    let mut before: Option<String> = None;
    let mut pages = 0;
    loop {
        let mut args = vec!["list", "--limit", "40"];
        args.extend(before.iter().flat_map(|id| ["--before", id]));
        let page = screen(&fixture, &args);
        seen.extend(page.lines().filter_map(|line| line.split(' ').next()?.parse::<i64>().ok()));
        pages += 1;
        arrive(1_000 * pages, 60);
        match page.lines().last().unwrap().strip_prefix("more: the same with --before ") {
            Some(id) => before = Some(id.to_owned()),
            None => break,
        }
    }
    assert_eq!((pages, seen), (6, (1..=230).rev().collect()));
    // more than a pipe holds, read by nobody
    arrive(100_000, 2_000);
    let mut command = fixture.command(&["dlq", "list", "--json", "--limit", "100000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(ended(&mut child).and_then(|status| status.code()), Some(0));
}

#[test]
fn the_byte_where_decoding_stops_is_found() {
    let (fixture, ours) = letters();
    let _bound = alike();
    let truncated = number(&fixture, "truncated_body");
    let explained = |args: &[&str]| {
        let screen = screen(&fixture, &[&["explain"], args].concat());
        assert!(screen.contains(&format!("schema id {ours}\n")), "{screen}");
        screen
    };
    insta::assert_snapshot!(explained(&[&truncated]), @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 0
    reason      truncated_body (decode)
    detail      the body ends before the event does
    header      magic byte 0, schema id [id]
    schema      [prefix].readings-value, version 1
                says the same as ours
    stops       at byte 51, in value: the body ends before the event does
    00000010  30 30 30 2d 30 30 30 30  2d 30 30 30 30 2d 30 30  |000-0000-0000-00|
    00000020  30 30 30 30 30 30 30 30  30 31 04 64 31 80 d8 c7  |0000000001.d1...|
    00000030  b6 bc 67 00 00 00 00 00                           |..g.....|
                       ^^
    event, as far as it goes
    {
      "device": "d1",
      "event_id": "00000000-0000-0000-0000-000000000001",
      "ts": "2026-05-01T12:00:00Z"
    }
    today       it would be refused: truncated_body (decode)
                the body ends before the event does
    "#);
    insta::assert_snapshot!(explained(&[&number(&fixture, "invalid_utf8")]), @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 5
    reason      invalid_utf8 (decode)
    detail      a string is not UTF-8
    header      magic byte 0, schema id [id]
    schema      [prefix].readings-value, version 1
                says the same as ours
    stops       at byte 42, in device: a string is not UTF-8
    00000000  00 [ schema id] 48 30 30  30 30 30 30 30 30 2d 30  |.....H00000000-0|
    00000010  30 30 30 2d 30 30 30 30  2d 30 30 30 30 2d 30 30  |000-0000-0000-00|
    00000020  30 30 30 30 30 30 30 30  30 36 04 ff fe 80 d8 c7  |0000000006......|
                                             ^^
    00000030  b6 bc 67 00 00 00 00 00  00 f0 3f                 |..g.......?|
    event, as far as it goes
    {
      "event_id": "00000000-0000-0000-0000-000000000006"
    }
    today       it would be refused: invalid_utf8 (decode)
                a string is not UTF-8
    "#);
    // as far as it goes without the registry
    insta::assert_snapshot!(explained(&[&truncated, "--registry-url", NOWHERE]), @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 0
    reason      truncated_body (decode)
    detail      the body ends before the event does
    header      magic byte 0, schema id [id]
    schema      the schema registry is away: error sending request for url
                (http://127.0.0.1:1/schemas/ids/[id]?deleted=true): client error
                (Connect): tcp connect error: Connection refused (os error 111)
    bytes       read with our schema in place of the writer's, which may mislead
    stops       at byte 51, in value: the body ends before the event does
    00000010  30 30 30 2d 30 30 30 30  2d 30 30 30 30 2d 30 30  |000-0000-0000-00|
    00000020  30 30 30 30 30 30 30 30  30 31 04 64 31 80 d8 c7  |0000000001.d1...|
    00000030  b6 bc 67 00 00 00 00 00                           |..g.....|
                       ^^
    event, as far as it goes
    {
      "device": "d1",
      "event_id": "00000000-0000-0000-0000-000000000001",
      "ts": "2026-05-01T12:00:00Z"
    }
    today       it is not known whether it would pass:
                the registry can't be asked for the writer's schema
    "#);
    let explanation = fixture.run(&["dlq", "explain", "--json", &truncated]).success();
    let explanation: Json = serde_json::from_str(&explanation).unwrap();
    assert_eq!(explanation["body"]["stops_at"], 51);
    assert_eq!(explanation["body"]["path"], "value");
    assert_eq!(explanation["body"]["event"]["device"], "d1");
    assert_eq!(explanation["schema"]["subjects"][0]["version"], 1);
    assert_eq!(explanation["today"]["refused"]["reason"], "truncated_body");
}

#[test]
fn a_writer_that_is_not_ours_is_held_against_ours() {
    let (fixture, _) = letters();
    let _bound = alike();
    let explained = |reason: &str| screen(&fixture, &["explain", &number(&fixture, reason)]);
    insta::assert_snapshot!(explained("incompatible_schema"), @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 2
    reason      incompatible_schema (decode)
    detail      "value": written as string, read as double
    header      magic byte 0, schema id [id]
    schema      [prefix].theirs-value, version 1
                of another type: value, written as string, read as double
                only the writer's: firmware (string)
    unreadable  "value": written as string, read as double
    event, as it was written
    {
      "device": "d3",
      "event_id": "00000000-0000-0000-0000-000000000003",
      "firmware": "2.1",
      "ts": "2026-05-01T12:00:00Z",
      "value": "high"
    }
    today       it would be refused: incompatible_schema (decode)
                "value": written as string, read as double
    "#);
    insta::assert_snapshot!(explained("unknown_schema_id"), @r#"
    letter      [letter], pending
    stream      readings
    record      [prefix].readings, partition 0, offset 1
    reason      unknown_schema_id (decode)
    detail      the schema registry knows no schema with id 2000000000
    header      magic byte 0, schema id [id]
    schema      the schema registry knows no schema with id 2000000000
    bytes       read with our schema in place of the writer's, which may mislead
    event, as far as it goes
    {
      "device": "d1",
      "event_id": "00000000-0000-0000-0000-000000000001",
      "ts": "2026-05-01T12:00:00Z",
      "value": 1.5
    }
    today       it would be refused: unknown_schema_id (decode)
                the schema registry knows no schema with id 2000000000
    "#);
}

#[test]
fn a_rule_is_explained_by_what_it_saw_and_by_what_it_would_say_today() {
    let mut contract = readings();
    let check = "message.value >= params.limits.low && message.device != 'd9'";
    contract["sluicegate"]["params"] = json!({"limit": 80.0, "limits": {"low": 0.0, "high": 9.0}});
    contract["sluicegate"]["rules"] = json!([{"name": "is_plausible", "check": check}]);
    let fixture = Fixture::with_stream(contract);
    let topic = fixture.topic();
    fixture.send_values(&topic, &[reading(fixture.schema_id(&topic), &id(1), NOON, -1.5)]);
    fixture.drain();
    let explained = |args: &[&str]| {
        let screen = screen(&fixture, &[&["explain", "1"], args].concat());
        screen.split_once("event\n").unwrap().1.to_owned()
    };
    insta::assert_snapshot!(explained(&[]), @r#"
    {
      "device": "d1",
      "event_id": "00000000-0000-0000-0000-000000000001",
      "ts": "2026-05-01T12:00:00Z",
      "value": -1.5
    }
    rule        is_plausible: message.value >= params.limits.low && message.device
                != 'd9'
                message.device = "d1"
                message.value = -1.5
                params.limits.low = 0.0
    today       it would be refused: rule:is_plausible (check)
                does not hold: message.value >= params.limits.low && message.device
                != 'd9'
    "#);
    // with the limit lowered it would pass
    let today = explained(&["--param", "readings.limits.low=-2"]);
    insta::assert_snapshot!(today.split_once("rule ").unwrap().1, @r#"
           is_plausible: message.value >= params.limits.low && message.device
                != 'd9'
                message.device = "d1"
                message.value = -1.5
                params.limits.low = -2.0
    today       decode, rules and labels let it pass; only the table can tell
                whether it takes it, and this tries:
                sluicegate dlq replay --id 1 --dry-run
    "#);
    // what is known without the registry
    let offline = explained(&["--registry-url", NOWHERE]);
    assert!(offline.contains("message.value = -1.5"), "{offline}");
    assert!(offline.contains("it is not known whether it would pass"), "{offline}");
}

#[test]
fn a_refused_row_is_explained_by_its_constraint() {
    let (fixture, _) = letters();
    let id = number(&fixture, "check_violation");
    let explained = || {
        let screen = screen(&fixture, &["explain", &id]).replace(&id, "[id]");
        screen.split_once("}\n").unwrap().1.to_owned()
    };
    insta::assert_snapshot!(explained(), @"
    constraint  is_possible: CHECK ((value < (1000)::double precision))
    today       decode, rules and labels let it pass; only the table can tell
                whether it takes it, and this tries:
                sluicegate dlq replay --id [id] --dry-run
    ");
    fixture.sql("ALTER TABLE readings DROP CONSTRAINT is_possible");
    assert!(explained().contains("is_possible: the table has it no more"));
    fixture.sql("UPDATE dlq_events SET status = 'replayed'");
    assert!(explained().contains("it has landed"));
}

#[test]
fn a_letter_whose_contract_is_gone_is_still_shown() {
    let (fixture, _) = letters();
    std::fs::remove_file(fixture.schemas.path().join("readings.avsc")).unwrap();
    let id = number(&fixture, "rule:value_is_positive");
    for verb in ["show", "explain"] {
        let shown = screen(&fixture, &[verb, &id]);
        assert!(shown.contains("\"value\": -1.5"), "{shown}");
    }
    let explained = screen(&fixture, &["explain", &id]);
    assert!(explained.contains("there is no contract of readings"), "{explained}");
}
