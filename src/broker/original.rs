//! Sending a record that was on a topic before, as it was.

use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
    util::Timeout,
};

/// Sends a record with the time that it had, in milliseconds since 1970, and with the present where the
/// topic refuses that; returns when the broker has it.
pub(crate) async fn send_with_its_time<'r>(
    producer: &FutureProducer,
    time: Option<i64>,
    patience: Timeout,
    record: impl Fn() -> FutureRecord<'r, [u8], [u8]>,
) -> Result<(), KafkaError> {
    // librdkafka takes 0 for now
    let time = time.filter(|millis| *millis > 0);
    let send = async |timestamp| {
        let record = FutureRecord { timestamp, ..record() };
        producer.send(record, patience).await.map(drop).map_err(|(error, _)| error)
    };
    match send(time).await {
        // a topic may have narrower bounds than the one that the record was on
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTimestamp) => {
            send(None).await
        }
        sent => sent,
    }
}
