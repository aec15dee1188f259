use super::{super::*, *};
use crate::wire::SchemaId;

#[tokio::test]
#[ignore]
async fn real() {
    let url = std::env::var("REAL").unwrap();
    let mut c = config(&[url]);
    c.timeout = Duration::from_secs(10);
    let r = Registry::new(&c).unwrap();
    let subject = "engineer/registry probe-value";
    println!("unknown: {:?}", r.writer_schema_with_retries(SchemaId(99999), RetryPolicy::default()).await);
    println!("latest: {:?}", r.latest(subject).await);
    println!("compatible: {:?}", r.is_compatible(subject, SCHEMA).await);
    println!("level: {:?}", r.compatibility(subject).await);
    println!("set: {:?}", r.set_compatibility(subject, Compatibility::Backward).await);
    println!("set: {:?}", r.set_compatibility(subject, Compatibility::Backward).await);
    println!("latest of an empty subject: {:?}", r.latest(subject).await);
    let first = r.register(subject, SCHEMA).await;
    println!("register: {first:?}");
    println!("again: {:?}", r.register(subject, SCHEMA).await);
    println!("reformatted: {:?}", r.register(subject, &SCHEMA.split_whitespace().collect::<String>()).await);
    println!("other attribute: {:?}", r.register(subject, &SCHEMA.replace("readings", "x")).await);
    let new = SCHEMA.replace("\"double\"", "\"string\"");
    println!("compatible: {:?}", r.is_compatible(subject, &new).await);
    println!("incompatible: {:?}", r.register(subject, &new).await);
    println!("invalid: {:?}", r.register(subject, "{").await);
    let schema = r.writer_schema(first.unwrap().id).await.unwrap();
    assert_eq!(schema.text, SCHEMA);
    println!("latest: {:?}", r.latest(subject).await);
}

#[tokio::test]
#[ignore]
async fn tls() {
    let mut c = config(&["https://localhost:18443".into()]);
    c.timeout = Duration::from_secs(5);
    println!("without: {:?}", Registry::new(&c).unwrap().writer_schema(SchemaId(1)).await);
    c.ca_file = Some("/tmp/registry-tls/ca.pem".into());
    let r = Registry::new(&c).unwrap();
    println!("with: {:?}", r.writer_schema(SchemaId(1)).await.map(|s| s.text.clone()));
    println!("own: {:?}", r.latest("a").await);
    println!("unknown: {:?}", r.writer_schema(SchemaId(2)).await);
}
