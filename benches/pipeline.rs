//! What one core does of the work between Kafka and Postgres, stage by stage: readings a second of
//! `device_telemetry`, in batches of a thousand.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a bench that can't run has nobody to tell")]

use std::{hint::black_box, path::Path};

use apache_avro::{Schema, types::Value};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use serde_json::{Value as Json, json};
use sluicegate::{
    check::check,
    codec::{Cell, Decoder, Encoder, WriterSchema, cells},
    contract::{Contract, Scope},
    label::{Fact, label},
    sink::RowEncoder,
    source::simulate::Simulator,
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Enough that no branch is learnt by heart, few enough for the processor's cache.
const READINGS: usize = 1_000;

const STREAM: &str = "device_telemetry";

type Event = Vec<(String, Value)>;

criterion_group!(benches, pipeline);
criterion_main!(benches);

fn pipeline(criterion: &mut Criterion) {
    let contract = Contract::read(Path::new("schemas/device_telemetry.avsc")).unwrap();
    let events = events(&contract);
    let (before, events_before) = version_before(&contract, &events);
    let same = WriterSchema::new(&contract.schema, &contract.schema);
    let same = same.decoder(&contract.schema).unwrap();
    let evolved = WriterSchema::new(&before, &contract.schema);
    let evolved = evolved.decoder(&contract.schema).unwrap();
    let bodies = encoded(&contract.schema, &events);
    let bodies_before = encoded(&before, &events_before);

    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(READINGS as u64));
    decode(&mut group, "same schema", &same, &bodies);
    decode(&mut group, "evolved schema", &evolved, &bodies_before);
    expressions(&mut group, &contract, &events);
    rows(&mut group, &contract, &same, &bodies);
    group.finish();
}

fn decode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    decoder: &Decoder<'_>,
    bodies: &[Vec<u8>],
) {
    group.bench_function(format!("decode to a tree, {name}"), |bencher| {
        bencher.iter(|| bodies.iter().for_each(|body| _ = black_box(decoder.decode(body).unwrap())))
    });
    group.bench_function(format!("decode to cells, {name}"), |bencher| {
        bencher.iter(|| {
            let mut cells = Vec::new();
            for body in bodies {
                assert!(decoder.cells(body, &mut cells));
                black_box(&cells);
            }
        })
    });
}

fn expressions(group: &mut BenchmarkGroup<'_, WallTime>, contract: &Contract, events: &[Event]) {
    let events: Vec<Vec<Cell<'_>>> =
        events.iter().map(|event| cells(event, &contract.columns)).collect();
    let scope = Scope::new(contract, OffsetDateTime::now_utc());
    group.bench_function("check two rules", |bencher| {
        bencher.iter(|| {
            events.iter().for_each(|event| black_box(check(event, contract, &scope)).unwrap());
        })
    });
    group.bench_function("derive a label", |bencher| {
        bencher.iter(|| {
            events.iter().for_each(|event| _ = black_box(label(event, contract, &scope).unwrap()));
        })
    });
}

fn rows(
    group: &mut BenchmarkGroup<'_, WallTime>,
    contract: &Contract,
    decoder: &Decoder<'_>,
    bodies: &[Vec<u8>],
) {
    let encoder = RowEncoder::new(contract).unwrap();
    let events: Vec<Event> = bodies.iter().map(|body| decoder.decode(body).unwrap()).collect();
    let events: Vec<Vec<Cell<'_>>> =
        events.iter().map(|event| cells(event, &contract.columns)).collect();
    let labels = [Cell::Boolean(true)];
    group.bench_function("encode a row", |bencher| {
        let mut rows = Vec::new();
        bencher.iter(|| {
            rows.clear();
            for cells in &events {
                let row = encoder.encode(cells, labels, Uuid::nil(), &mut rows);
                black_box(row.unwrap());
            }
        })
    });
    let scope = Scope::new(contract, OffsetDateTime::now_utc());
    group.bench_function("body to row, with rules and label", |bencher| {
        let mut rows = Vec::new();
        bencher.iter(|| {
            rows.clear();
            let mut cells = Vec::new();
            for body in bodies {
                assert!(decoder.cells(body, &mut cells));
                check(&cells, contract, &scope).unwrap();
                let labels = label(&cells, contract, &scope).unwrap();
                let labels = labels.iter().map(Fact::cell);
                let row = encoder.encode(&cells, labels, Uuid::nil(), &mut rows);
                black_box(row.unwrap());
            }
        })
    });
}

fn events(contract: &Contract) -> Vec<Event> {
    let mut simulator = Simulator::typed(STREAM, &contract.schema, 7).unwrap().unwrap();
    let start = OffsetDateTime::now_utc() - Duration::DAY;
    let reading = |second| match simulator.next(start + Duration::seconds(second)).unwrap() {
        Value::Record(fields) => fields,
        other => panic!("{other:?} is no record"),
    };
    (0..).map(reading).take(READINGS).collect()
}

/// What a version of the schema wrote that had a field more, and floats where there are doubles.
fn version_before(contract: &Contract, events: &[Event]) -> (Schema, Vec<Event>) {
    let mut schema: Json = serde_json::from_str(&contract.text).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    let value = fields.iter_mut().find(|field| field["name"] == "value").unwrap();
    value["type"] = json!("float");
    fields.insert(2, json!({"name": "firmware", "type": ["null", "string"]}));
    let events = events.iter().cloned().map(|mut event| {
        for (_, value) in &mut event {
            if let Value::Double(double) = value {
                *value = Value::Float(*double as f32);
            }
        }
        let firmware = Value::Union(1, Box::new(Value::String("4.2.0".to_owned())));
        event.insert(2, ("firmware".to_owned(), firmware));
        event
    });
    (Schema::parse(&schema).unwrap(), events.collect())
}

fn encoded(schema: &Schema, events: &[Event]) -> Vec<Vec<u8>> {
    let encoder = Encoder::new(schema).unwrap();
    events.iter().map(|event| encoder.encode(&Value::Record(event.clone())).unwrap()).collect()
}
